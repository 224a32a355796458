import json
import os
from itertools import islice

KURS = os.environ["KURS"]

# page
from collections.abc import Iterator
from contextlib import suppress

import httpx
from httpx_sse import ServerSentEvent, connect_sse


def events(url: str) -> Iterator[ServerSentEvent]:
    last: dict[str, str] = {}
    while True:  # it does not connect again by itself
        with suppress(httpx.TransportError), connect_sse(httpx, "GET", url, headers=last, timeout=10) as source:
            for event in source.iter_sse():
                last = {"Last-Event-ID": event.id}
                yield event


stream = events(f"{KURS}/v1/stream?channels=btc_usd,candles:BTCUSDT:1m&timer=0")
# end

for event in islice(stream, int(os.environ["EVENTS"])):
    print(json.dumps({"channel": event.event, "id": event.id, "data": event.json()}))
