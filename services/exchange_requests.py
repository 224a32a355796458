"""Single requests to an exchange's REST hosts, for tasks that need one now and then."""

import asyncio
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from services import outbound
from services.core.bounds import clean_text
from services.core.errors import Unavailable
from services.core.exchange import Event, Exchange, InvalidValue, RestCall, RestResponse, validate_events
from services.ports import Cache, Clock
from services.settings import Settings

BLOCKED_STATUSES = (403, 451)  # this host does not serve us; another one may
TIMEOUT_SECONDS = 10
MAX_PAUSE_SECONDS = 86_400
log = logging.getLogger(__name__)


def may_try_next_host(status: int) -> bool:
    """Return whether another host of the exchange may respond better."""
    return status >= 500 or status in BLOCKED_STATUSES


class ExchangeRequests:
    """A client of all exchanges. The pauses that an exchange demands hold for all processes."""

    def __init__(self, settings: Settings, cache: Cache, clock: Clock) -> None:
        self._settings, self._cache, self._clock = settings, cache, clock
        self._http = outbound.http_client(settings, timeout=TIMEOUT_SECONDS)

    async def get(self, exchange: Exchange, call: RestCall) -> Sequence[Event]:
        """Return the valid events of the first usable response. Raises Unavailable."""
        await self._raise_if_paused(exchange)
        reason = "no host is configured"
        for url in exchange.rest_urls:
            host = urlsplit(url).hostname
            try:
                response = await self._http.get(url + call.path, headers=dict(exchange.credentials()))
            except httpx.HTTPError as error:
                why = outbound.failure_text(error, outbound.proxy_for(self._settings, url))
                reason = f"{host} did not respond: {why}"
                continue
            if response.status_code == 200:
                return await self._parse(call, response.content, host or "")
            reason = f"{host} responded {response.status_code} {exchange.error_text(response.content)}".strip()
            if await self._pause(exchange, response, reason) or not may_try_next_host(response.status_code):
                break
        raise Unavailable(reason)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _parse(self, call: RestCall, body: bytes, host: str) -> Sequence[Event]:
        """Parse in a thread: a response with all instruments of an exchange takes a tenth of a second."""
        now = self._clock.now()
        try:
            events = validate_events(await asyncio.to_thread(call.parse, body, now), now)
        except ValueError as error:
            raise Unavailable(f"{host}: the response cannot be parsed: {str(error)[:100]}") from None
        if invalid := [event for event in events if isinstance(event, InvalidValue)]:
            text = "%s: %d values are out of range and left out, the first of %s: %s"
            log.warning(text, host, len(invalid), invalid[0].subject, clean_text(invalid[0].detail))
        return [event for event in events if not isinstance(event, InvalidValue)]

    async def _raise_if_paused(self, exchange: Exchange) -> None:
        (reason,) = await self._cache.get(_pause_key(exchange))
        if reason is not None:
            raise Unavailable(f"{exchange.name} wants no requests for now: {reason.decode()}")

    async def _pause(self, exchange: Exchange, response: httpx.Response, reason: str) -> bool:
        """Send no request for as long as the exchange demands. Return whether it does."""
        answer = RestResponse(response.status_code, response.headers, response.content)
        seconds = min(exchange.retry_delay(answer, self._clock.now()), MAX_PAUSE_SECONDS)
        if seconds > 0:
            await self._cache.set(_pause_key(exchange), reason.encode(), int(seconds) + 1)
        return seconds > 0


def _pause_key(exchange: Exchange) -> str:
    return f"pause:{exchange.name}"
