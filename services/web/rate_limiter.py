"""The quota: so many requests a minute for each address, counted by all replicas together."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

from starlette.types import Scope

from services.core.errors import QuotaExceeded, Unavailable
from services.log_throttle import ThrottledLog
from services.ports import Cache, Clock
from services.settings import Settings
from services.web.app_spec import Headers, QuotaCharge
from services.web.client_address import ClientAddresses

WINDOW_SECONDS = 60
SYNC_SECONDS = 0.5
SYNC_BATCH_CLIENTS = 500  # in one round trip, for which the event loop stands still
MAX_COUNTED_CLIENTS = 50_000  # in a minute, each with a counter of its own; later ones share so many counters
log = logging.getLogger(__name__)


class ClientRateLimiter:
    """Counts in this process at once; every half second the replicas add up their counts in the cache."""

    def __init__(self, *, settings: Settings, clock: Clock, cache: Cache) -> None:
        self._clock, self._cache = clock, cache
        self._limit = settings.api_rate_limit
        self._addresses = ClientAddresses(settings.trusted_proxies)
        self._throttled_log = ThrottledLog(log)
        self._window = 0  # its number, the same at all replicas
        self._window_ends_at = 0  # monotonic
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
        """Take back a charge."""
        if admission.window == self._window:
            self._local_counts[admission.client] -= admission.cost

    async def sync(self) -> None:
        """Run the job that adds up the counts of all replicas. Without the cache each counts for itself."""
        while True:
            await self._clock.sleep(SYNC_SECONDS)
            self._roll_window()
            try:
                clients = list(self._local_counts)
                for start in range(0, len(clients), SYNC_BATCH_CLIENTS):
                    await self._sync_batch(clients[start : start + SYNC_BATCH_CLIENTS])
            except Unavailable as error:
                self._throttled_log.warning("quota: counted by this replica alone: %s", error)

    async def _sync_batch(self, clients: Sequence[str]) -> None:
        window, sent = self._window, {client: self._local_counts.get(client, 0) for client in clients}
        totals = await self._cache.increment(f"quota:{window}", 2 * WINDOW_SECONDS, sent)
        if window == self._window:
            for client, count in sent.items():
                known = self._shared_counts.get(client, 0) + count
                self._shared_counts[client] = max(totals[client], known)  # a cache that was emptied has less
                self._local_counts[client] -= count

    def _counter_key(self, client: str) -> str:
        """Return the key of a client's counter. To bound memory, late clients share counters, as at all replicas."""
        if len(self._local_counts) < MAX_COUNTED_CLIENTS or client in self._local_counts:
            return client
        return f"#{crc32(client.encode()) % MAX_COUNTED_CLIENTS}"

    def _roll_window(self) -> int:
        """Begin a new window when the old one is over, and return the seconds left of the current one.

        Setting the wall clock ends no window early and makes none longer.
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
