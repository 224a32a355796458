"""Server-sent events, and a stream of them that goes on where it broke off, with no hole and no repeat."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import httpx

from services.core.backoff import delays
from services.core.errors import BadRequest

IDLE_TIMEOUT_SECONDS = 40  # a server says something each 15 seconds
RETRY_STATUSES = frozenset({429, 502, 503, 504})  # answers that may be others soon


class Event(NamedTuple):
    """One event. `name`: its channel, or "reset", "skipped", "closing", or "market" when it changes.

    Numbers that are no integers are text.
    """

    name: str
    data: dict[str, Any]
    id: str = ""


class StreamRequest(NamedTuple):
    """What is followed, where. `seconds`: between two words on a channel; 0: each change."""

    url: str
    channels: Sequence[str]
    interval_seconds: float = 0


async def follow(
    client: httpx.AsyncClient, stream: StreamRequest, on_disconnect: Callable[[str], None]
) -> AsyncGenerator[Event, None]:
    """All events of a stream, over as many connections as it takes; `broken` is told why one ended.

    Raises BadRequest when the server refuses.
    """
    address = f"{stream.url.rstrip('/')}/v1/stream"
    query: dict[str, str] = {"channels": ",".join(stream.channels), "timer": f"{stream.interval_seconds:g}"}
    last, market, pauses = "", "live", delays(0.25, 10)
    while True:
        headers = {"last-event-id": last} if last else {}
        try:
            async with client.stream(
                "GET", address, params=query, headers=headers, timeout=IDLE_TIMEOUT_SECONDS
            ) as answer:
                await _check_response(answer)
                if (known := answer.headers.get("kurs-market", market)) != market:
                    market = known
                    yield Event("market", {"reason": market})
                async for event in parse_events(answer.aiter_text()):
                    pauses, last = delays(0.25, 10), event.id or last
                    yield event
            on_disconnect("the stream has ended")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadRequest(f"{stream.url} is no address: {error}") from None
        except httpx.TransportError as error:
            on_disconnect(str(error) or type(error).__name__)
        await asyncio.sleep(next(pauses))


async def parse_events(pieces: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events in a text, as HTML (9.2.6) defines them; each of ours has one line of data, a JSON object."""
    fields, rest = dict[str, str](), ""
    async for piece in pieces:
        *lines, rest = f"{rest}{piece}".split("\n")
        for line in lines:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            elif not line:
                if "data" in fields:
                    said = json.loads(fields["data"], parse_float=str)
                    yield Event(fields.get("event", "message"), said, fields.get("id", ""))
                fields.clear()


async def _check_response(answer: httpx.Response) -> None:
    """Raises BadRequest, or TransportError for what may be otherwise soon."""
    if answer.status_code == 200:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise BadRequest(f"{answer.request.url.host} answers, but not as Kurs does")
        return
    await answer.aread()
    try:
        reason = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        reason = answer.reason_phrase
    if answer.status_code in RETRY_STATUSES:
        raise httpx.TransportError(reason)
    raise BadRequest(f"{answer.request.url.host} answers {answer.status_code}: {reason}")
