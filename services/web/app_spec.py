"""What a process serves, as its services describe it."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fastapi import APIRouter
from starlette.types import ASGIApp

from services.web.callers import Authenticator
from services.web.client_address import ClientAddresses
from services.web.cors import CorsPolicy
from services.web.endpoint import Binding, StreamEndpoint
from services.web.health import Check
from services.web.hosts import ANY_HOST, AllowedHosts
from services.web.quota_policies import QuotaPolicy

Headers = list[tuple[bytes, bytes]]


class RawResponse(NamedTuple):
    """A whole response, ready to be sent."""

    status: int
    headers: Headers
    body: bytes


StreamApp = ASGIApp
"""Serves one client until it leaves: server-sent events or a WebSocket. The scope's extension `kurs.wire` is the
connection's transport. May raise KursError before it sends anything."""


class Composition(NamedTuple):
    """A service's endpoints, the jobs that share objects with them, and what knows the callers of personal ones.

    `on_start` run once, when the servers are available. One that raises Misconfigured ends the process.
    """

    endpoints: Sequence[Binding]
    jobs: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    authenticator: Authenticator | None = None
    on_start: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()


class Charge(Protocol):
    """A request that was counted at a quota."""

    def headers(self) -> Headers:
        """Return the headers with the client's quota."""

    def refund(self) -> None:
        """Take back the charge for a request that turned out to cost nothing."""

    async def forgive(self) -> None:
        """Take back that the request counts as failed, which it does at first under a strict policy."""


class RateLimiter(Protocol):
    """How many requests a client may send."""

    def has_limit(self, policy: QuotaPolicy) -> bool:
        """Whether requests under a policy are counted."""

    def charge(self, policy: QuotaPolicy, client: str, cost: int = 1) -> Charge | None:
        """Charge a request before any work is done for it; None without a limit. Raises QuotaExceeded."""

    async def attempt(self, policy: QuotaPolicy, client: str) -> Charge | None:
        """Charge a request under a strict policy; None without a limit. Raises QuotaExceeded."""


class AppSpec(NamedTuple):
    """What a process serves: the routers, endpoints and checks of its services, and its quota.

    `needed`: the checks that have to succeed for the process to be ready.
    """

    routers: Sequence[APIRouter] = ()
    endpoints: Sequence[Binding] = ()
    checks: Mapping[str, Check] = {}
    needed: frozenset[str] = frozenset()
    limiter: RateLimiter | None = None
    addresses: ClientAddresses = ClientAddresses(())
    hosts: AllowedHosts = AllowedHosts((ANY_HOST,), "")
    cors: CorsPolicy = CorsPolicy(())
    authenticator: Authenticator | None = None

    @property
    def streams(self) -> dict[str, StreamApp]:
        """The apps of streams by their paths."""
        return {each.endpoint.path: each.method for each in self.endpoints if isinstance(each.endpoint, StreamEndpoint)}
