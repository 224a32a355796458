import asyncio
import json
import os
from itertools import islice

SIMULATOR, SECURE, CERTIFICATE = os.environ["SIMULATOR"], os.environ["SECURE"], os.environ["CERTIFICATE"]
live: list[int] = []
quotes: list[list[float]] = []
books: list[list[float]] = []


async def seen_trade(trade: object, _received: float) -> None:
    live.append(int(trade.id))  # type: ignore[attr-defined]


async def seen_quote(quote: object, _received: float) -> None:
    quotes.append([float(quote.bid), float(quote.ask)])  # type: ignore[attr-defined]


async def seen_book(book: object, _received: float) -> None:
    sides = book.book  # type: ignore[attr-defined]
    books.append([float(sides.bids.index(0)[0]), float(sides.asks.index(0)[0])])


# page
import ssl

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.exchanges import Binance

routes = Routes("/api/v3/exchangeInfo", l2book="/api/v3/depth?symbol={}&limit={}")
Binance.rest_endpoints = [RestEndpoint(f"{SIMULATOR}/binance", routes=routes)]
Binance.websocket_endpoints = [  # it takes wss:// only
    WebsocketEndpoint(f"{SECURE}/binance", options={"ssl": ssl.create_default_context(cafile=CERTIFICATE)})
]
callbacks = {"trades": seen_trade, "ticker": seen_quote, "l2_book": seen_book}
feed = Binance(symbols=["BTC-USDT"], channels=list(callbacks), callbacks=callbacks)
# end


async def main() -> None:
    handler = FeedHandler({"log": {"disabled": True}, "uvloop": False})
    handler.add_feed(feed)
    handler.run(start_loop=False, install_signal_handlers=False)
    async with asyncio.timeout(40):
        while len(live) < 10 or not quotes or not books:
            await asyncio.sleep(0.1)
    print(json.dumps({"live": list(islice(live, 10)), "quote": quotes[-1], "book": books[-1]}), flush=True)
    os._exit(0)  # it takes its time to stop


asyncio.run(main())
