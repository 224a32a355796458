"""What a process serves, as its services describe it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from fastapi import APIRouter
from starlette.types import ASGIApp, Scope

from services.web.client_address import ClientAddresses
from services.web.health import Check
from services.web.hosts import ANY_HOST, AllowedHosts

Headers = list[tuple[bytes, bytes]]


class RawResponse(NamedTuple):
    """A whole answer, ready to be sent."""

    status: int
    headers: Headers
    body: bytes


FastHandler = Callable[[bytes, Mapping[bytes, bytes]], RawResponse | None]
"""Answers GET and HEAD of one path from the query string and the headers; None: nothing is ready, its route waits."""


class AsyncFastHandler(Protocol):
    """A front whose answers may have to be waited for."""

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse | None:
        """What is ready. Raises KursError."""

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse:
        """The answer, made now. Raises KursError."""


StreamApp = ASGIApp
"""Answers all of one path for as long as its client stays: an event stream or a WebSocket. The scope's extension
`kurs.wire` is the connection's transport. May raise KursError before it sends anything."""


class QuotaCharge(NamedTuple):
    """A request that was charged for. `headers`: they tell the client its quota."""

    headers: Headers
    client: str
    cost: int
    window: int


class RateLimiter(Protocol):
    """Who may ask how often."""

    def charge(self, scope: Scope, cost: int = 1) -> QuotaCharge:
        """Charge a request before any work is done for it. Raises QuotaExceeded with `headers`."""

    def refund(self, admission: QuotaCharge) -> None:
        """What was charged for turned out to cost nothing."""


class AppSpec(NamedTuple):
    """What a process serves: the routers, ready answers and checks of its services, and its quota.

    `costs`: as how many requests one counts whose answer is not ready, by its path; 1 where nothing else is said.
    """

    routers: Sequence[APIRouter]
    fronts: Mapping[str, FastHandler]
    checks: Mapping[str, Check]
    needed: frozenset[str]
    quota: RateLimiter | None = None
    streams: Mapping[str, StreamApp] = {}
    costs: Mapping[str, int] = {}
    addresses: ClientAddresses = ClientAddresses(())
    hosts: AllowedHosts = AllowedHosts((ANY_HOST,), "")
