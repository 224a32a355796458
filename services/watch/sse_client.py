"""Client of server-sent events that resumes after a disconnect, without a gap or a repeat."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import httpx

from services.core.backoff import delays
from services.core.errors import BadRequest

IDLE_TIMEOUT_SECONDS = 40  # the server sends at least a comment each 15 s
RETRY_STATUSES = frozenset({429, 502, 503, 504})


class Event(NamedTuple):
    """One event. `name`: its channel, "reset", "skipped", "closing", or "market" when that changes.

    In `data`, numbers that are not integers are text.
    """

    name: str
    data: dict[str, Any]
    id: str = ""


class StreamRequest(NamedTuple):
    """The API's URL, the channels, and the seconds between two values of a channel; 0: each change."""

    url: str
    channels: Sequence[str]
    interval_seconds: float = 0


async def follow(
    client: httpx.AsyncClient, stream: StreamRequest, on_disconnect: Callable[[str], None]
) -> AsyncGenerator[Event, None]:
    """Yield the events of a stream over several connections. `on_disconnect` is called with the reason of each end.

    Raises BadRequest when the server rejects the request.
    """
    address = f"{stream.url.rstrip('/')}/v1/stream"
    query: dict[str, str] = {"channels": ",".join(stream.channels), "timer": f"{stream.interval_seconds:g}"}
    last, market, pauses = "", "live", delays(0.25, 10)
    while True:
        headers = {"last-event-id": last} if last else {}
        try:
            async with client.stream(
                "GET", address, params=query, headers=headers, timeout=IDLE_TIMEOUT_SECONDS
            ) as response:
                await _check_response(response)
                if (reported := response.headers.get("kurs-market", market)) != market:
                    market = reported
                    yield Event("market", {"reason": market})
                async for event in parse_events(response.aiter_text()):
                    pauses, last = delays(0.25, 10), event.id or last
                    yield event
            on_disconnect("the stream has ended")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadRequest(f"{stream.url} is not a URL: {error}") from None
        except httpx.TransportError as error:
            on_disconnect(str(error) or type(error).__name__)
        await asyncio.sleep(next(pauses))


async def parse_events(pieces: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Parse a text's events, as the HTML standard (9.2.6) defines them; each has one line of data, a JSON object."""
    fields, rest = dict[str, str](), ""
    async for piece in pieces:
        *lines, rest = f"{rest}{piece}".split("\n")
        for line in lines:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            elif not line:
                if "data" in fields:
                    data = json.loads(fields["data"], parse_float=str)
                    yield Event(fields.get("event", "message"), data, fields.get("id", ""))
                fields.clear()


async def _check_response(response: httpx.Response) -> None:
    """Raise BadRequest for a response that is final, TransportError for one to retry."""
    if response.status_code == 200:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise BadRequest(f"{response.request.url.host} is not a Kurs API: its response is no event stream")
        return
    await response.aread()
    try:
        reason = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        reason = response.reason_phrase
    if response.status_code in RETRY_STATUSES:
        raise httpx.TransportError(reason)
    raise BadRequest(f"{response.request.url.host} responds {response.status_code}: {reason}")
