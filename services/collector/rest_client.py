"""REST client of one exchange: host by host, and silent while the exchange wants no requests."""

import asyncio
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from services import outbound
from services.collector.exchange_feed import ExchangeFeed, RequestPause
from services.core import times
from services.core.exchange import Event, RestCall, RestResponse
from services.exchange_requests import may_try_next_host

REQUEST_ERROR_STATUSES = (400, 404, 422)  # what is requested is wrong or missing; other requests may succeed
MAX_ERROR_CHARACTERS = 100


class RestError(Exception):
    """A request without a usable response. `retry_after` is in seconds.

    `request_specific`: because of what was requested, and not of the state of the exchange.
    """

    def __init__(
        self, reason: str, retry_after: float = 0, status: int | None = None, *, request_specific: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after
        self.status, self.request_specific = status, request_specific


class RestClient:
    """Client of an exchange's REST hosts. The host that responded last is used first."""

    def __init__(self, feed: ExchangeFeed, http_client: httpx.AsyncClient) -> None:
        self._feed, self._http_client = feed, http_client
        self._host_index = 0
        self._paused_until = 0.0  # by the loop's clock; limits are of all hosts together
        self._resume_notice = ""

    @property
    def host(self) -> str:
        """Name of the host that is used first."""
        return urlsplit(self._base_url).hostname or ""

    @property
    def _base_url(self) -> str:
        return self._feed.exchange.rest_urls[self._host_index % len(self._feed.exchange.rest_urls)]

    async def ensure_exchange_clock(self) -> None:
        """Ping the exchange for its time, if no response has had it yet. Raises RestError."""
        if not self._feed.clocks.exchange.is_known:
            await self.get(RestCall(self._feed.exchange.ping_path, lambda body, now: ()))

    async def get(self, call: RestCall) -> Sequence[Event]:
        """Return the events of the first usable response. Raises RestError."""
        error = RestError("no host is configured")
        for _ in self._feed.exchange.rest_urls:
            if (seconds := self._pause_seconds()) > 0:
                raise RestError(self._feed.request_pause.reason, seconds)
            try:
                response = await self._fetch(call)
            except httpx.HTTPError as http_error:
                error = RestError(f"{self.host} did not respond: {self._transport_error(http_error)}")
            else:
                if response.status == 200:
                    return self._parse(call, response)
                error = self._status_error(response)
                if self._pause_seconds() > 0 or not may_try_next_host(response.status):
                    raise error
            self._host_index += 1
        raise error

    def _pause_seconds(self) -> float:
        return max(0.0, self._paused_until - asyncio.get_running_loop().time())

    async def _fetch(self, call: RestCall) -> RestResponse:
        exchange, clock = self._feed.exchange, self._feed.clock
        requested_at = clock.monotonic()
        http_response = await self._http_client.get(self._base_url + call.path, headers=dict(exchange.credentials()))
        response = RestResponse(http_response.status_code, http_response.headers, http_response.content)
        if date := _response_date(response):
            self._feed.clocks.exchange.on_response(*date, requested_at, clock.monotonic())
        if response.status < 500:
            self._pause(response, exchange.retry_delay(response, self._feed.clocks.exchange_now()))
        return response

    def _pause(self, response: RestResponse, seconds: float) -> None:
        """Send no request to any host for so many seconds."""
        until = asyncio.get_running_loop().time() + seconds
        if seconds and until > self._paused_until:
            self._paused_until = until
            near_limit = response.status == 200
            why = "reports that its rate limit is nearly reached" if near_limit else self._status_text(response)
            ms = round(seconds * 1000)
            self._resume_notice = f"; next request at {times.format_rfc3339(self._feed.clocks.wall_now() + ms)}"
            reason = f"{self.host} {why}{self._resume_notice}"
            self._feed.request_pause = RequestPause(reason, self._feed.clock.monotonic() + ms)

    def _parse(self, call: RestCall, response: RestResponse) -> Sequence[Event]:
        try:
            now, clocks = self._feed.clock.monotonic(), self._feed.clocks
            time = clocks.exchange.now(now) if call.uses_exchange_time else clocks.wall.wall_time(now)
            return self._feed.validate(call.parse(response.body, time), now)
        except Exception as error:  # whatever is wrong with it came from outside
            self._feed.on_malformed(error)
            reason = f"{self.host}: the response cannot be parsed: {str(error)[:MAX_ERROR_CHARACTERS]}"
            raise RestError(reason, request_specific=True) from error

    def _transport_error(self, error: Exception) -> str:
        return outbound.failure_text(error, outbound.proxy_for(self._feed.settings, self._base_url))

    def _status_error(self, response: RestResponse) -> RestError:
        seconds, reason = self._pause_seconds(), f"{self.host} {self._status_text(response)}"
        reason = f"{reason}{self._resume_notice}" if seconds else reason
        return RestError(reason, seconds, response.status, request_specific=response.status in REQUEST_ERROR_STATUSES)

    def _status_text(self, response: RestResponse) -> str:
        return f"responded {response.status} {self._feed.error_text(response.body)}".strip()


def _response_date(response: RestResponse) -> tuple[int, int] | None:
    """Return the exchange's time of a response, and how old it may have been then, out of a cache; both in ms."""
    try:
        date = parsedate_to_datetime(response.headers["date"]).timestamp()
        return int(date * 1000), int(response.headers.get("age", 0)) * 1000
    except (KeyError, ValueError, OverflowError):
        return None
