"""Asking over HTTP: host by host, and not before the exchange wants to be asked."""

import asyncio
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from services import outbound
from services.collector.exchange_feed import ExchangeFeed
from services.core import times
from services.core.exchange import Event, RestCall, RestResponse

BLOCKED_STATUSES = (403, 451)  # this host will not serve us, another one may
REQUEST_ERROR_STATUSES = (400, 404, 422)  # what is asked for is wrong or is not there; other questions may be answered


class RestError(Exception):
    """Nothing useful came back. `about_request`: because of what was asked for, not of how the exchange is."""

    def __init__(
        self, reason: str, retry_after: float = 0, status: int | None = None, *, request_specific: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after, self.status, self.request_specific = (
            reason,
            retry_after,
            status,
            request_specific,
        )


class RestClient:
    """One exchange's REST hosts. The one that served last is asked first."""

    def __init__(self, feed: ExchangeFeed, http_client: httpx.AsyncClient) -> None:
        self._feed, self._http_client = feed, http_client
        self._host_index = 0
        self._paused_until = 0.0  # by the loop's clock, which nobody turns; all its hosts count together
        self._resume_notice = ""  # when it is asked again

    @property
    def host(self) -> str:
        """The host whose turn it is."""
        return urlsplit(self._base_url).hostname or ""

    @property
    def _base_url(self) -> str:
        return self._feed.exchange.rest_urls[self._host_index % len(self._feed.exchange.rest_urls)]

    async def ensure_exchange_clock(self) -> None:
        """Ask for nothing but the exchange's time, if nothing has told it yet. Raises NoAnswer."""
        if not self._feed.exchange_clock.is_known:
            await self.get(RestCall(self._feed.exchange.ping_path, lambda body, now: ()))

    async def get(self, ask: RestCall) -> Sequence[Event]:
        """What the answer says. Raises NoAnswer."""
        failure = RestError("no host to ask")
        for _ in self._feed.exchange.rest_urls:
            if (wait := self._pause_seconds()) > 0:
                raise RestError(self._feed.requests_paused_reason, wait)
            try:
                answer = await self._fetch(ask)
            except httpx.HTTPError as error:
                failure = RestError(f"{self.host} does not answer: {self._transport_error(error)}")
            else:
                if answer.status == 200:
                    return self._parse(ask, answer)
                failure = self._status_error(answer)
                if self._pause_seconds() > 0 or not self._may_try_next_host(answer):
                    raise failure
            self._host_index += 1
        raise failure

    @staticmethod
    def _may_try_next_host(answer: RestResponse) -> bool:
        """Is it this host's own trouble, so that the next one may serve us?"""
        return answer.status >= 500 or answer.status in BLOCKED_STATUSES

    def _pause_seconds(self) -> float:
        """Seconds that it wants to be left alone."""
        return max(0.0, self._paused_until - asyncio.get_running_loop().time())

    async def _fetch(self, ask: RestCall) -> RestResponse:
        exchange = self._feed.exchange
        asked = self._feed.clock.monotonic()
        response = await self._http_client.get(self._base_url + ask.path, headers=dict(exchange.credentials()))
        answer = RestResponse(response.status_code, response.headers, response.content)
        if date := _response_date(answer):
            self._feed.exchange_clock.on_response(*date, asked, self._feed.clock.monotonic())
        if answer.status < 500:
            self._pause(answer, exchange.retry_delay(answer, self._feed.exchange_now()))
        return answer

    def _pause(self, answer: RestResponse, seconds: float) -> None:
        """Ask none of its hosts for so long."""
        until = asyncio.get_running_loop().time() + seconds
        if seconds and until > self._paused_until:
            self._paused_until = until
            why = "says that its limit is nearly reached" if answer.status == 200 else self._status_text(answer)
            ms = round(seconds * 1000)
            self._resume_notice = f"; next request at {times.format_rfc3339(self._feed.wall_now() + ms)}"
            self._feed.requests_paused_reason = f"{self.host} {why}{self._resume_notice}"
            self._feed.requests_paused_until = self._feed.clock.monotonic() + ms

    def _parse(self, ask: RestCall, answer: RestResponse) -> Sequence[Event]:
        try:
            now = self._feed.clock.monotonic()
            told = self._feed.exchange_clock.now(now) if ask.uses_exchange_time else self._feed.stamps.wall_time(now)
            return self._feed.validate(ask.parse(answer.body, told), now)
        except Exception as error:  # whatever it is, it came from outside
            self._feed.on_malformed(error)
            reason = f"{self.host} answers what cannot be understood: {error!s:.100}"
            raise RestError(reason, request_specific=True) from error

    def _transport_error(self, error: Exception) -> str:
        return outbound.failure_text(error, outbound.proxy_for(self._feed.deps.settings, self._base_url))

    def _status_error(self, answer: RestResponse) -> RestError:
        wait, reason = self._pause_seconds(), f"{self.host} {self._status_text(answer)}"
        reason = f"{reason}{self._resume_notice}" if wait else reason
        return RestError(reason, wait, answer.status, request_specific=answer.status in REQUEST_ERROR_STATUSES)

    def _status_text(self, answer: RestResponse) -> str:
        return f"answers {answer.status} {self._feed.error_text(answer.body)}".strip()


def _response_date(answer: RestResponse) -> tuple[int, int] | None:
    """When it was made, by the exchange's clock, and how old it may have been then, out of a cache."""
    try:
        date = parsedate_to_datetime(answer.headers["date"]).timestamp()
        return int(date * 1000), int(answer.headers.get("age", 0)) * 1000
    except (KeyError, ValueError, OverflowError):
        return None
