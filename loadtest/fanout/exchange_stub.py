"""A Binance that sends quotes or trades of all requested pairs at a constant rate, from SIGUSR2 on.

python -m loadtest.fanout.exchange_stub PORT bookTicker|aggTrade PER_SECOND

A price is the time at which it was sent, in seconds of the monotonic clock.
"""

import asyncio
import itertools
import json
import sys
import time
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from loadtest.fanout import pacing


def respond_to_request(connection: ServerConnection, request: Request) -> Response | None:
    """Respond that every symbol trades and has no past klines. Requests for streams become sockets."""
    path, _, query = request.path.partition("?")
    if path.endswith("/stream"):
        return None
    symbol = parse_qs(query).get("symbol", [""])[0]
    listed: object = {"symbols": [{"symbol": symbol, "status": "TRADING"}]} if path.endswith("exchangeInfo") else []
    return connection.respond(200, json.dumps(listed))


def frame(kind: str, symbol: str, number: int) -> str:
    """Return a quote or a trade of one symbol with the current time."""
    price = f"{time.monotonic():.6f}"
    data: dict[str, object] = {"s": symbol, "u": number, "b": price, "B": "1", "a": price, "A": "1"}
    if kind == "aggTrade":
        now = time.time_ns() // 1_000_000
        data = {"e": kind, "E": now, "s": symbol, "a": number, "p": price, "q": "1", "f": number, "l": number, "T": now}
        data["m"] = False
    return json.dumps({"stream": f"{symbol.lower()}@{kind}", "data": data})


async def main(port: int, kind: str, per_second: float) -> None:
    """Serve until the process is killed."""
    streams = dict[ServerConnection, list[str]]()

    async def handle_connection(connection: ServerConnection) -> None:
        assert connection.request
        names = parse_qs(urlsplit(connection.request.path).query)["streams"][0].split("/")
        streams[connection] = sorted({name.partition("@")[0].upper() for name in names})
        await connection.wait_closed()
        del streams[connection]

    async with serve(handle_connection, "127.0.0.1", port, process_request=respond_to_request, compression=None):
        numbers = itertools.count(1)
        async for _ in pacing.ticks_from_signal(per_second):
            number = next(numbers)
            for connection, symbols in list(streams.items()):
                round_, index = divmod(number, len(symbols))
                await connection.send(frame(kind, symbols[index], round_))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
