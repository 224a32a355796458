import asyncio
import json
import os
import ssl
from itertools import islice

SIMULATOR, SECURE, CERTIFICATE = os.environ["SIMULATOR"], os.environ["SECURE"], os.environ["CERTIFICATE"]
live: list[int] = []
quotes: list[list[float]] = []


async def seen_trade(trade: object, _received: float) -> None:
    live.append(int(trade.id))  # type: ignore[attr-defined]


async def seen_quote(quote: object, _received: float) -> None:
    quotes.append([float(quote.bid), float(quote.ask)])  # type: ignore[attr-defined]


# page
from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.exchanges import Binance

Binance.rest_endpoints = [RestEndpoint(f"{SIMULATOR}/binance", routes=Routes("/api/v3/exchangeInfo"))]
Binance.websocket_endpoints = [  # it takes wss:// only
    WebsocketEndpoint(f"{SECURE}/binance", options={"ssl": ssl.create_default_context(cafile=CERTIFICATE)})
]
callbacks = {"trades": seen_trade, "ticker": seen_quote}
feed = Binance(symbols=["BTC-USDT"], channels=["trades", "ticker"], callbacks=callbacks)
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
