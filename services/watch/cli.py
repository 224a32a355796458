"""`kurs watch [CHANNEL …]`: rates and candles as they change, as a table in a terminal, otherwise line by line."""

import argparse
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from rich.console import Console

from services.outbound import http_client
from services.settings import Settings
from services.watch.screen import screen
from services.watch.sse_client import StreamRequest, follow

DEFAULT_CHANNELS = ("courses", "connection", "source_changed")
DEFAULT_PORT = 8000  # of the API by default
WatchCommand = Callable[[Settings], Coroutine[Any, Any, int]]


def command(argv: Sequence[str]) -> WatchCommand:
    """Parse the arguments of `kurs watch`. Wrong ones end the program."""
    parser = argparse.ArgumentParser("kurs watch", description=__doc__)
    examples = "btc_usd, courses, connection, source_changed, candles:BTCUSDT:1m, indicators:BTCUSDT:1h:sma:20"
    parser.add_argument(
        "channels", nargs="*", metavar="CHANNEL", help=f"{examples}; default: {' '.join(DEFAULT_CHANNELS)}"
    )
    parser.add_argument("--url", default="", help="the API's URL; default: the API on this machine")
    parser.add_argument(
        "--timer", type=float, default=0.0, metavar="SECONDS", help="between two values of a channel; 0: each change"
    )
    args = parser.parse_args(argv)
    return partial(run_watch, StreamRequest(args.url, tuple(args.channels or DEFAULT_CHANNELS), args.timer))


async def run_watch(stream: StreamRequest, settings: Settings) -> int:
    """Show a stream until cancelled, or until the reader closes the output. Raises BadRequest."""
    url = stream.url or settings.own_url(settings.port or DEFAULT_PORT)
    async with http_client(settings) as client:
        with screen(Console(), Console(stderr=True)) as shown:
            broken: Callable[[str], None] = lambda why: shown.note(f"{url}: {why}; retrying")  # noqa: E731
            try:
                async with aclosing(follow(client, stream._replace(url=url), broken)) as events:
                    async for event in events:
                        shown.show(event)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the flush at exit fails
    return 0
