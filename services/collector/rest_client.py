"""Asking over HTTP: host by host, and not before the exchange wants to be asked."""

import asyncio
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from services import outbound
from services.collector.exchange_feed import Line
from services.core import times
from services.core.exchange import Answer, Ask, Event

NOT_HERE = (403, 451)  # this host will not serve us, another one may
WRONG = (400, 404, 422)  # what is asked for is wrong or is not there; other questions may be answered


class NoAnswer(Exception):
    """Nothing useful came back. `about_request`: because of what was asked for, not of how the exchange is."""

    def __init__(self, reason: str, wait: float = 0, status: int | None = None, *, about_request: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.status, self.about_request = reason, wait, status, about_request


class Rest:
    """One exchange's REST hosts. The one that served last is asked first."""

    def __init__(self, line: Line, client: httpx.AsyncClient) -> None:
        self._line, self._client = line, client
        self._turn = 0
        self._closed_until = 0.0  # by the loop's clock, which nobody turns; all its hosts count together
        self._again = ""  # when it is asked again

    @property
    def host(self) -> str:
        """The host whose turn it is."""
        return urlsplit(self._origin).hostname or ""

    @property
    def _origin(self) -> str:
        return self._line.exchange.rests[self._turn % len(self._line.exchange.rests)]

    async def learn_clock(self) -> None:
        """Ask for nothing but the exchange's time, if nothing has told it yet. Raises NoAnswer."""
        if not self._line.exchange_clock.known:
            await self.get(Ask(self._line.exchange.ping, lambda body, now: ()))

    async def get(self, ask: Ask) -> Sequence[Event]:
        """What the answer says. Raises NoAnswer."""
        failure = NoAnswer("no host to ask")
        for _ in self._line.exchange.rests:
            if (wait := self._wait()) > 0:
                raise NoAnswer(self._line.requests_wait, wait)
            try:
                answer = await self._fetch(ask)
            except httpx.HTTPError as error:
                failure = NoAnswer(f"{self.host} does not answer: {self._explain(error)}")
            else:
                if answer.status == 200:
                    return self._read(ask, answer)
                failure = self._failure(answer)
                if self._wait() > 0 or not self._another_may(answer):
                    raise failure
            self._turn += 1
        raise failure

    @staticmethod
    def _another_may(answer: Answer) -> bool:
        """Is it this host's own trouble, so that the next one may serve us?"""
        return answer.status >= 500 or answer.status in NOT_HERE

    def _wait(self) -> float:
        """Seconds that it wants to be left alone."""
        return max(0.0, self._closed_until - asyncio.get_running_loop().time())

    async def _fetch(self, ask: Ask) -> Answer:
        exchange = self._line.exchange
        asked = self._line.clock.monotonic()
        response = await self._client.get(self._origin + ask.path, headers=dict(exchange.credentials()))
        answer = Answer(response.status_code, response.headers, response.content)
        if date := _date(answer):
            self._line.exchange_clock.answered(*date, asked, self._line.clock.monotonic())
        if answer.status < 500:
            self._close(answer, exchange.wait(answer, self._line.exchange_now()))
        return answer

    def _close(self, answer: Answer, seconds: float) -> None:
        """Ask none of its hosts for so long."""
        until = asyncio.get_running_loop().time() + seconds
        if seconds and until > self._closed_until:
            self._closed_until = until
            why = "says that its limit is nearly reached" if answer.status == 200 else self._said(answer)
            ms = round(seconds * 1000)
            self._again = f"; it is asked again at {times.written(self._line.stamp() + ms)}"
            self._line.requests_wait = f"{self.host} {why}{self._again}"
            self._line.requests_wait_until = self._line.clock.monotonic() + ms

    def _read(self, ask: Ask, answer: Answer) -> Sequence[Event]:
        try:
            now = self._line.clock.monotonic()
            told = self._line.exchange_clock.now(now) if ask.dated else self._line.stamps.wall(now)
            return self._line.checked(ask.read(answer.body, told), now)
        except Exception as error:  # whatever it is, it came from outside
            self._line.garbage(error)
            reason = f"{self.host} answers what cannot be understood: {error!s:.100}"
            raise NoAnswer(reason, about_request=True) from error

    def _explain(self, error: Exception) -> str:
        return outbound.failure(error, outbound.proxy_for(self._line.deps.settings, self._origin))

    def _failure(self, answer: Answer) -> NoAnswer:
        wait, reason = self._wait(), f"{self.host} {self._said(answer)}"
        reason = f"{reason}{self._again}" if wait else reason
        return NoAnswer(reason, wait, answer.status, about_request=answer.status in WRONG)

    def _said(self, answer: Answer) -> str:
        return f"answers {answer.status} {self._line.complaint(answer.body)}".strip()


def _date(answer: Answer) -> tuple[int, int] | None:
    """When it was made, by the exchange's clock, and how old it may have been then, out of a cache."""
    try:
        date = parsedate_to_datetime(answer.headers["date"]).timestamp()
        return int(date * 1000), int(answer.headers.get("age", 0)) * 1000
    except (KeyError, ValueError, OverflowError):
        return None
