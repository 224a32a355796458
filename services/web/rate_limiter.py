"""How often a client may ask: so many requests a minute per address, counted together by all replicas."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

from starlette.types import Scope

from services.core.errors import QuotaExceeded, Unavailable
from services.log_throttle import ThrottledLog
from services.ports import Deps
from services.web.app_spec import Headers, QuotaCharge
from services.web.client_address import ClientAddresses

WINDOW_SECONDS = 60
SYNC_SECONDS = 0.5
SYNC_BATCH_CLIENTS = 500  # clients that are added up in one round trip: the loop stands still for it
MAX_COUNTED_CLIENTS = (
    50_000  # that are counted each for itself; those that come later in a minute share so many counters
)
log = logging.getLogger(__name__)


class ClientRateLimiter:
    """Counts here at once; every half second the replicas add up what each has counted, through the cache."""

    def __init__(self, deps: Deps) -> None:
        self._clock, self._cache = deps.clock, deps.cache
        self._limit = deps.settings.api_rate_limit
        self._addresses = ClientAddresses(deps.settings.trusted_proxies)
        self._complaints = ThrottledLog(log)
        self._window, self._window_ends_at = (
            0,
            0,
        )  # its name, the same for all replicas, and when it is over here (monotonic)
        self._shared_counts: dict[str, int] = {}
        self._local_counts: defaultdict[str, int] = defaultdict(int)

    def charge(self, scope: Scope, cost: int = 1) -> QuotaCharge:
        """Charge a request before any work is done for it. Raises QuotaExceeded when the client has too little left."""
        left_seconds = self._roll_window()
        client = self._counter_key(self._addresses.client_of(scope))
        left = self._limit - self._shared_counts.get(client, 0) - self._local_counts.get(client, 0)
        cost = min(cost, self._limit)
        headers = self._headers(left - cost if left >= cost else max(left, 0), left_seconds)
        if left >= cost:
            self._local_counts[client] += cost
            return QuotaCharge(headers, client, cost, self._window)
        error = QuotaExceeded(
            f"{self._limit} requests a minute are allowed, and this one counts as {cost}; come back in {left_seconds} s"
        )
        error.headers = [*headers, (b"retry-after", b"%d" % left_seconds)]
        raise error

    def refund(self, admission: QuotaCharge) -> None:
        """What was charged for turned out to cost nothing."""
        if admission.window == self._window:
            self._local_counts[admission.client] -= admission.cost

    async def sync(self, deps: Deps) -> None:
        """The job that adds up with the other replicas. While the cache is away each counts for itself."""
        while True:
            await deps.clock.sleep(SYNC_SECONDS)
            self._roll_window()
            try:
                clients = list(self._local_counts)
                for start in range(0, len(clients), SYNC_BATCH_CLIENTS):
                    await self._sync_batch(clients[start : start + SYNC_BATCH_CLIENTS])
            except Unavailable as error:
                self._complaints.warning("counted for this replica alone: %s", error)

    async def _sync_batch(self, clients: Sequence[str]) -> None:
        window, sent = self._window, {client: self._local_counts.get(client, 0) for client in clients}
        totals = await self._cache.increment(f"quota:{window}", 2 * WINDOW_SECONDS, sent)
        if window == self._window:
            for client, count in sent.items():
                known = self._shared_counts.get(client, 0) + count
                self._shared_counts[client] = max(totals[client], known)  # a cache that was emptied knows less
                self._local_counts[client] -= count

    def _counter_key(self, client: str) -> str:
        """What counts a client. Memory is bounded: who comes late shares a counter, the same at each replica."""
        if len(self._local_counts) < MAX_COUNTED_CLIENTS or client in self._local_counts:
            return client
        return f"#{crc32(client.encode()) % MAX_COUNTED_CLIENTS}"

    def _roll_window(self) -> int:
        """Begin a new window when the old one is over; answers the seconds left of the current one.

        A clock that is set ends none early and makes none longer.
        """
        now = self._clock.monotonic()
        if now >= self._window_ends_at:
            self._window, milliseconds = divmod(self._clock.now(), WINDOW_SECONDS * 1000)
            self._window_ends_at = now + WINDOW_SECONDS * 1000 - milliseconds
            self._shared_counts.clear()
            self._local_counts.clear()
        return -(-(self._window_ends_at - now) // 1000)

    def _headers(self, left: int, seconds: int) -> Headers:
        return [
            (b"ratelimit-policy", b'"default";q=%d;w=%d' % (self._limit, WINDOW_SECONDS)),
            (b"ratelimit", b'"default";r=%d;t=%d' % (left, seconds)),
            (b"x-ratelimit-limit", b"%d" % self._limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % seconds),
        ]
