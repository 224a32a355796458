import json
import os
from itertools import islice

KURS = os.environ["KURS"]

# page
from collections.abc import Iterator
from contextlib import suppress

import requests
import sseclient


def events(url: str) -> Iterator[sseclient.Event]:
    last: dict[str, str] = {}
    while True:  # it does not connect again by itself
        with suppress(requests.RequestException), requests.get(url, stream=True, headers=last, timeout=10) as answer:
            for event in sseclient.SSEClient(answer).events():
                last = {"Last-Event-ID": event.id}
                yield event


stream = events(f"{KURS}/v1/stream?channels=btc_usd,candles:BTCUSDT:1m&timer=0")
# end

for event in islice(stream, int(os.environ["EVENTS"])):
    print(json.dumps({"channel": event.event, "id": event.id, "data": json.loads(event.data)}))
