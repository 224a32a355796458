import asyncio
import json
import os
from itertools import islice

SIMULATOR, SECURE, CERTIFICATE = os.environ["SIMULATOR"], os.environ["SECURE"], os.environ["CERTIFICATE"]
live: list[int] = []
quotes: list[list[float]] = []


async def seen_trade(trade: object, _received: float) -> None:
    live.append(int(trade.id.rpartition("-")[2]))  # type: ignore[attr-defined]


async def seen_book(book: object, _received: float) -> None:
    quotes.append([float(book.bid_price), float(book.ask_price)])  # type: ignore[attr-defined]


# page
import ssl

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.exchanges import Deribit

instruments = [f"/api/v2/public/get_instruments?currency={currency}" for currency in ("BTC", "ETH", "USDC")]
Deribit.rest_endpoints = [RestEndpoint(f"{SIMULATOR}/deribit", routes=Routes(instruments))]
Deribit.websocket_endpoints = [  # it takes wss:// only
    WebsocketEndpoint(f"{SECURE}/deribit/ws/api/v2", options={"ssl": ssl.create_default_context(cafile=CERTIFICATE)})
]
feed = Deribit(
    symbols=["BTC-USD-PERP"],
    channels=["trades", "l1_book"],
    callbacks={"trades": seen_trade, "l1_book": seen_book},
    config={"deribit": {"key_id": "any", "key_secret": "any"}},
)
# end


async def main() -> None:
    handler = FeedHandler({"log": {"disabled": True}, "uvloop": False})
    handler.add_feed(feed)
    handler.run(start_loop=False, install_signal_handlers=False)
    async with asyncio.timeout(40):
        while len(live) < 10 or not quotes:
            await asyncio.sleep(0.1)
    print(json.dumps({"live": list(islice(live, 10)), "quote": quotes[-1]}), flush=True)
    os._exit(0)  # it takes its time to stop


asyncio.run(main())
