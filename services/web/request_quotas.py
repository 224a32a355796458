"""The quota that a request is charged to: of its endpoint's policy, for the person or the address that sends it."""

from collections.abc import Iterable
from re import Pattern
from typing import Any, NamedTuple

from starlette.routing import compile_path
from starlette.types import Scope

from services.web.app_spec import Charge, RateLimiter
from services.web.callers import CONTEXT, RequestContext
from services.web.client_address import ClientAddresses
from services.web.endpoint import Endpoint, Operation
from services.web.quota_policies import API, PAGES, PERSON, UNAUTHENTICATED, QuotaPolicy, Subject

UNMETERED_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # a supervisor requests them
SIMULATOR_PREFIX = "/simulator/"  # a collector requests its simulated exchange
API_PREFIX = "/api/"


class Price(NamedTuple):
    """The policy that counts a request, and as how many it does."""

    policy: QuotaPolicy
    cost: int


class RequestQuotas:
    """The prices of all requests to a process, and the charges for them."""

    def __init__(
        self, operations: Iterable[Operation[Any]], limiter: RateLimiter | None, addresses: ClientAddresses
    ) -> None:
        self._limiter, self._addresses = limiter, addresses
        self._prices: dict[tuple[str, str], Price] = {}
        self._templates: list[tuple[str, Pattern[str], Price]] = []
        for operation in operations:
            price = Price(operation.policy, operation.cost if isinstance(operation, Endpoint) else 1)
            for path in operation.paths:
                self._prices[operation.method, path] = price
                if "{" in path:
                    self._templates.append((operation.method, compile_path(path)[0], price))

    def has_limit(self, policy: QuotaPolicy) -> bool:
        """Whether requests under a policy are counted."""
        return self._limiter is not None and self._limiter.has_limit(policy)

    def charge(self, scope: Scope, price: Price) -> Charge | None:
        """Charge a request whose policy is not strict. Raises QuotaExceeded."""
        if self._limiter is None:
            return None
        context: RequestContext | None = scope.get(CONTEXT)
        policy = price.policy
        if context is not None and context.caller is not None:
            if policy is not PERSON and not self._limiter.has_limit(policy):
                return None
            return self._limiter.charge(PERSON, context.caller.person, price.cost)
        if policy.subject is Subject.PERSON:
            policy = UNAUTHENTICATED
        address = self._addresses.client_of(scope) if context is None else context.address
        return self._limiter.charge(policy, address, price.cost)

    async def admit(self, scope: Scope) -> Charge | None:
        """Charge any request before any work is done for it. Raises QuotaExceeded."""
        if self._limiter is None or not is_metered(scope):
            return None
        price, context = self._price(scope), scope[CONTEXT]
        if not price.policy.strict:
            return self.charge(scope, price)
        if price.policy.subject is Subject.ADDRESS:
            return await self._limiter.attempt(price.policy, context.address)
        if context.caller is None:
            return self.charge_unauthenticated(scope)
        return await self._limiter.attempt(price.policy, context.caller.person)

    def charge_unauthenticated(self, scope: Scope) -> Charge | None:
        """Charge a request whose token is not valid. Raises QuotaExceeded."""
        if self._limiter is None:
            return None
        return self._limiter.charge(UNAUTHENTICATED, self._addresses.client_of(scope))

    def _price(self, scope: Scope) -> Price:
        path, method = scope["path"], scope.get("method", "GET")
        method = "GET" if method == "HEAD" else method
        if price := self._prices.get((method, path)):
            return price
        for template_method, pattern, price in self._templates:
            if template_method == method and pattern.match(path):
                return price
        return Price(API if path.startswith(API_PREFIX) else PAGES, 1)


def is_metered(scope: Scope) -> bool:
    """Whether a request is counted. A browser sends a preflight on its own."""
    path = scope["path"]
    return scope.get("method") != "OPTIONS" and path not in UNMETERED_PATHS and not path.startswith(SIMULATOR_PREFIX)
