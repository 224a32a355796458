"""What a process serves, as its services describe it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from fastapi import APIRouter
from starlette.types import ASGIApp, Scope

from services.web.client_address import Addresses
from services.web.health import Check
from services.web.hosts import ANY, Hosts

Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """A whole answer, ready to be sent."""

    status: int
    headers: Headers
    body: bytes


Front = Callable[[bytes, Mapping[bytes, bytes]], Answer | None]
"""Answers GET and HEAD of one path from the query string and the headers; None: nothing is ready, its route waits."""


class Later(Protocol):
    """A front whose answers may have to be waited for."""

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer | None:
        """What is ready. Raises KursError."""

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """The answer, made now. Raises KursError."""


Stream = ASGIApp
"""Answers all of one path for as long as its client stays: an event stream or a WebSocket. The scope's extension
`kurs.wire` is the connection's transport. May raise KursError before it sends anything."""


class Admission(NamedTuple):
    """A request that was charged for. `headers`: they tell the client its quota."""

    headers: Headers
    client: str
    cost: int
    window: int


class Quota(Protocol):
    """Who may ask how often."""

    def admit(self, scope: Scope, cost: int = 1) -> Admission:
        """Charge a request before any work is done for it. Raises QuotaExceeded with `headers`."""

    def refund(self, admission: Admission) -> None:
        """What was charged for turned out to cost nothing."""


class Site(NamedTuple):
    """What a process serves: the routers, ready answers and checks of its services, and its quota.

    `costs`: as how many requests one counts whose answer is not ready, by its path; 1 where nothing else is said.
    """

    routers: Sequence[APIRouter]
    fronts: Mapping[str, Front]
    checks: Mapping[str, Check]
    needed: frozenset[str]
    quota: Quota | None = None
    streams: Mapping[str, Stream] = {}
    costs: Mapping[str, int] = {}
    addresses: Addresses = Addresses(())
    hosts: Hosts = Hosts((ANY,), "")
