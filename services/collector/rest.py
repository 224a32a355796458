"""Asking over HTTP: host by host, and not before the exchange wants to be asked."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from services.collector.line import Line
from services.core.exchange import Answer, Ask, Event

NOT_HERE = (403, 451)  # this host will not serve us, another one may


class NoAnswer(Exception):
    """Nothing useful came back."""

    def __init__(self, reason: str, wait: float = 0, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.status = reason, wait, status


class Rest:
    """One exchange's REST hosts. The one that served last is asked first."""

    def __init__(self, line: Line, client: httpx.AsyncClient) -> None:
        self._line, self._client = line, client
        self._turn = 0
        self._closed_until = 0.0  # by the loop's clock, which nobody turns; all its hosts count together

    @property
    def host(self) -> str:
        """The host whose turn it is."""
        return urlsplit(self._origin).hostname or ""

    @property
    def _origin(self) -> str:
        return self._line.exchange.rests[self._turn % len(self._line.exchange.rests)]

    async def get(self, ask: Ask) -> Sequence[Event]:
        """What the answer says. Raises NoAnswer."""
        failure = NoAnswer("no host to ask")
        for _ in self._line.exchange.rests:
            if (wait := self._wait()) > 0:
                raise NoAnswer(f"{self._line.exchange.name} asked to be left alone for {wait:.0f} s", wait)
            try:
                answer = await self._fetch(ask)
            except httpx.HTTPError as error:
                failure = NoAnswer(f"{self.host} does not answer: {type(error).__name__} {error}".strip())
            else:
                if answer.status == 200:
                    return self._read(ask, answer)
                failure = self._failure(answer)
                if not self._another_may(answer):
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
        response = await self._client.get(self._origin + ask.path, headers=dict(exchange.credentials()))
        answer = Answer(response.status_code, response.headers, response.content)
        if not self._another_may(answer):
            wait = exchange.wait(answer, self._line.clock.now())
            self._closed_until = max(self._closed_until, asyncio.get_running_loop().time() + wait)
        return answer

    def _read(self, ask: Ask, answer: Answer) -> Sequence[Event]:
        try:
            now = self._line.clock.now()
            return self._line.validator.check(ask.read(answer.body, now), now)
        except Exception as error:  # whatever it is, it came from outside
            self._line.garbage(error)
            raise NoAnswer(f"{self.host} answers what cannot be understood") from error

    def _failure(self, answer: Answer) -> NoAnswer:
        reason = f"{self.host} answers {answer.status} {self._line.complaint(answer.body)}".strip()
        return NoAnswer(reason, self._wait(), answer.status)
