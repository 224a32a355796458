"""How often a client may ask: so many requests a minute per address, counted together by all replicas."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

from starlette.types import Scope

from services.core.errors import QuotaExceeded, Unavailable
from services.log_throttle import Complaints
from services.ports import Deps
from services.web.app_spec import Admission, Headers
from services.web.client_address import Addresses

WINDOW = 60
AGREE_SECONDS = 0.5
BATCH = 500  # clients that are added up in one round trip: the loop stands still for it
CLIENTS = 50_000  # that are counted each for itself; those that come later in a minute share so many counters
log = logging.getLogger(__name__)


class PerClient:
    """Counts here at once; every half second the replicas add up what each has counted, through the cache."""

    def __init__(self, deps: Deps) -> None:
        self._clock, self._cache = deps.clock, deps.cache
        self._limit = deps.settings.api_rate_limit
        self._addresses = Addresses(deps.settings.trusted_proxies)
        self._complaints = Complaints(log)
        self._window, self._ends = 0, 0  # its name, the same for all replicas, and when it is over here (monotonic)
        self._agreed: dict[str, int] = {}
        self._fresh: defaultdict[str, int] = defaultdict(int)

    def admit(self, scope: Scope, cost: int = 1) -> Admission:
        """Charge a request before any work is done for it. Raises QuotaExceeded when the client has too little left."""
        left_seconds = self._roll()
        client = self._counter(self._addresses.of(scope))
        left = self._limit - self._agreed.get(client, 0) - self._fresh.get(client, 0)
        cost = min(cost, self._limit)
        headers = self._headers(left - cost if left >= cost else max(left, 0), left_seconds)
        if left >= cost:
            self._fresh[client] += cost
            return Admission(headers, client, cost, self._window)
        error = QuotaExceeded(
            f"{self._limit} requests a minute are allowed, and this one counts as {cost}; come back in {left_seconds} s"
        )
        error.headers = [*headers, (b"retry-after", b"%d" % left_seconds)]
        raise error

    def refund(self, admission: Admission) -> None:
        """What was charged for turned out to cost nothing."""
        if admission.window == self._window:
            self._fresh[admission.client] -= admission.cost

    async def agree(self, deps: Deps) -> None:
        """The job that adds up with the other replicas. While the cache is away each counts for itself."""
        while True:
            await deps.clock.sleep(AGREE_SECONDS)
            self._roll()
            try:
                clients = list(self._fresh)
                for start in range(0, len(clients), BATCH):
                    await self._add_up(clients[start : start + BATCH])
            except Unavailable as error:
                self._complaints.say("counted for this replica alone: %s", error)

    async def _add_up(self, clients: Sequence[str]) -> None:
        window, sent = self._window, {client: self._fresh.get(client, 0) for client in clients}
        totals = await self._cache.count(f"quota:{window}", 2 * WINDOW, sent)
        if window == self._window:
            for client, count in sent.items():
                known = self._agreed.get(client, 0) + count
                self._agreed[client] = max(totals[client], known)  # a cache that was emptied knows less
                self._fresh[client] -= count

    def _counter(self, client: str) -> str:
        """What counts a client. Memory is bounded: who comes late shares a counter, the same at each replica."""
        if len(self._fresh) < CLIENTS or client in self._fresh:
            return client
        return f"#{crc32(client.encode()) % CLIENTS}"

    def _roll(self) -> int:
        """Begin a new window when the old one is over; answers the seconds left of the current one.

        A clock that is set ends none early and makes none longer.
        """
        now = self._clock.monotonic()
        if now >= self._ends:
            self._window, milliseconds = divmod(self._clock.now(), WINDOW * 1000)
            self._ends = now + WINDOW * 1000 - milliseconds
            self._agreed.clear()
            self._fresh.clear()
        return -(-(self._ends - now) // 1000)

    def _headers(self, left: int, seconds: int) -> Headers:
        return [
            (b"ratelimit-policy", b'"default";q=%d;w=%d' % (self._limit, WINDOW)),
            (b"ratelimit", b'"default";r=%d;t=%d' % (left, seconds)),
            (b"x-ratelimit-limit", b"%d" % self._limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % seconds),
        ]
