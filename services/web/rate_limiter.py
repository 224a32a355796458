"""Quotas: how many requests a minute each client may send, counted by all replicas together.

A replica decides at once, by its own counts and what it knows of the others'. It sends its counts twice a second, and
as soon as it has let a twentieth of a client's limit through since then. So `n` replicas let through at most the limit
and `n` twentieths of it, and what comes during a round trip to the cache. One replica is exact.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from prometheus_client import Counter

from services.core.errors import QuotaExceeded, Unavailable
from services.core.quotas import (
    COUNTED_MS,
    STEP_MS,
    WINDOW_MS,
    AttemptRule,
    AttemptState,
    GenerationalMap,
    RecentCounts,
)
from services.log_throttle import ThrottledLog
from services.ports import Cache, Clock
from services.settings import Settings
from services.web.app_spec import Headers
from services.web.attempt_limiter import AttemptLimiter
from services.web.quota_policies import POLICIES, QuotaPolicy

SYNC_SECONDS, MIN_SYNC_SECONDS = 0.5, 0.02
SYNC_SHARE = 20  # a client's requests are sent at once when they are one part in so many of its limit
SYNC_BATCH_CLIENTS = 500  # in one round trip, for which the event loop stands still
MAX_COUNTED_CLIENTS = 20_000  # of one policy in a minute, each with a counter of its own; later ones share as many
FORGIVEN_MS = 60_000  # after which one failure under a strict policy is forgotten; also the longest wait
REFUSED = Counter("kurs_quota_refusals_total", "Requests that were refused because of a quota", ("policy",))
log = logging.getLogger(__name__)


class ClientRateLimiter:
    """The quotas of all policies. Requests under a strict policy are counted in the cache before they are served."""

    def __init__(self, *, settings: Settings, clock: Clock, cache: Cache) -> None:
        self._clock, self._cache = clock, cache
        self._attempts = AttemptLimiter(cache, clock)
        limits = {policy: policy.limit(settings) for policy in POLICIES}
        self._sync_due = asyncio.Event()
        self._quotas = {
            policy.name: PolicyQuota(policy.name, limit, clock, self._sync_due)
            for policy, limit in limits.items()
            if limit
        }
        self._throttled_log = ThrottledLog(log)

    def has_limit(self, policy: QuotaPolicy) -> bool:
        """Whether requests under a policy are counted."""
        return policy.name in self._quotas

    def charge(self, policy: QuotaPolicy, client: str, cost: int = 1) -> "QuotaCharge | None":
        """Charge a request before any work is done for it; None without a limit. Raises QuotaExceeded."""
        quota = self._quotas.get(policy.name)
        return quota.charge(client, cost) if quota else None

    async def attempt(self, policy: QuotaPolicy, client: str) -> "AttemptCharge | None":
        """Charge a request under a strict policy; None without a limit. Raises QuotaExceeded."""
        quota = self._quotas.get(policy.name)
        if quota is None:
            return None
        key, rule = f"{policy.name}:{client}", AttemptRule(quota.limit, quota.limit, FORGIVEN_MS)
        state = (await self._attempts.attempt({key: rule}))[key]
        if state.wait_ms:
            raise quota.exceeded("failed ones make the next one wait", 0, state.wait_ms)
        return AttemptCharge(quota, self._attempts, key, state)

    async def sync(self) -> None:
        """Run the job that adds up the counts of all replicas. Without the cache each counts for itself."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._sync_due.wait(), SYNC_SECONDS)
            await self.sync_once()
            await self._clock.sleep(MIN_SYNC_SECONDS)

    @property
    def sync_is_due(self) -> bool:
        """Whether some client has been let through so often that its counts are to be sent at once."""
        return self._sync_due.is_set()

    async def sync_once(self) -> None:
        """Add up the counts of all replicas."""
        self._sync_due.clear()
        try:
            for quota in self._quotas.values():
                await quota.sync(self._cache)
        except Unavailable as error:
            for quota in self._quotas.values():
                quota.unsent.clear()  # they stay in this replica's own counts
            self._throttled_log.warning("quotas: counted by this replica alone: %s", error)


class PolicyQuota:
    """The requests of all clients under one policy."""

    def __init__(self, name: str, limit: int, clock: Clock, sync_due: asyncio.Event) -> None:
        self.limit, self._name, self._monotonic = limit, name, clock.monotonic
        self._sync_due, self._sync_at = sync_due, max(limit // SYNC_SHARE, 1)
        self._clients: GenerationalMap[RecentCounts] = GenerationalMap(COUNTED_MS)
        self.unsent: defaultdict[str, int] = defaultdict(int)
        self._quoted_name = b'"%s"' % name.encode()
        self._fixed_headers = (
            (b"ratelimit-policy", b"%s;q=%d;w=%d" % (self._quoted_name, limit, WINDOW_MS // 1000)),
            (b"x-ratelimit-limit", b"%d" % limit),
        )

    def charge(self, client: str, cost: int) -> "QuotaCharge":
        """Charge a request. Raises QuotaExceeded."""
        now, cost = self._monotonic(), min(cost, self.limit)
        recent = self._clients.get(client, now)
        if recent is None:
            client = self._clients.own_or_shared(client, MAX_COUNTED_CLIENTS)
            recent = self._clients.get(client, now) or self._clients.put(client, RecentCounts())
        recent.drop_expired(now)
        left = self.limit - recent.total - cost
        if left < 0:
            raise self.exceeded(f"this one counts as {cost}", left + cost, recent.expiry_of(-left) - now)
        expires = now - now % STEP_MS + COUNTED_MS
        recent.add(cost, expires)
        unsent = self.unsent[client] = self.unsent[client] + cost
        if unsent >= self._sync_at:
            self._sync_due.set()
        return QuotaCharge(self, client, cost, expires, recent)

    def refund(self, charge: "QuotaCharge") -> None:
        """Take back a charge that still counts."""
        if charge.expires > self._monotonic():
            charge.recent.take_back(charge.cost)
            self.unsent[charge.client] -= charge.cost

    def standing(self, recent: RecentCounts) -> Headers:
        """Return the headers with what is left to a client."""
        now = self._monotonic()
        reset = recent.expiry_of(1) - now if recent.total else COUNTED_MS
        return self.headers(self.limit - recent.total, reset)

    def headers(self, left: int, reset_ms: int) -> Headers:
        """Return the headers with a quota: so many requests are left until one more is, in `reset_ms`."""
        left, seconds = max(left, 0), -(-reset_ms // 1000)
        return [
            *self._fixed_headers,
            (b"ratelimit", b"%s;r=%d;t=%d" % (self._quoted_name, left, seconds)),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % seconds),
        ]

    def exceeded(self, note: str, left: int, wait_ms: int) -> QuotaExceeded:
        """Return the error for a request that has to wait."""
        REFUSED.labels(self._name).inc()
        seconds = -(-wait_ms // 1000)
        error = QuotaExceeded(
            f"{self.limit} requests a minute are allowed here ({self._name}), and {note}; come back in {seconds} s"
        )
        error.violated_policies = [self._name]
        error.headers = [*self.headers(left, wait_ms), (b"retry-after", b"%d" % seconds)]
        return error

    async def sync(self, cache: Cache) -> None:
        """Add what was not sent yet to the counts of all replicas. Raises Unavailable."""
        sending = [(client, count) for client, count in self.unsent.items() if count]
        self.unsent.clear()
        for start in range(0, len(sending), SYNC_BATCH_CLIENTS):
            shared = await cache.add_recent(self._name, dict(sending[start : start + SYNC_BATCH_CLIENTS]))
            now = self._monotonic()
            for client, entries in shared.items():
                if recent := self._clients.get(client, now):
                    self._adopt(recent, [(now + left, count) for left, count in entries], self.unsent.get(client, 0))

    def _adopt(self, recent: RecentCounts, shared: Sequence[tuple[int, int]], unsent: int) -> None:
        """Count what all replicas have counted, and what came since, unless the cache has lost some of ours.

        What expires within a second may have expired there already.
        """
        soon = self._monotonic() + STEP_MS
        own = sum(count for expires, count in recent.entries if expires > soon) - unsent
        if sum(count for _, count in shared) < own:
            return
        recent.replace(shared)
        if unsent > 0:
            recent.add(unsent, soon - soon % STEP_MS - STEP_MS + COUNTED_MS)
        else:
            recent.take_back(-unsent)


class QuotaCharge:
    """A request that was charged for."""

    __slots__ = ("_quota", "client", "cost", "expires", "recent")

    def __init__(self, quota: PolicyQuota, client: str, cost: int, expires: int, recent: RecentCounts) -> None:
        self._quota, self.client, self.cost, self.expires, self.recent = quota, client, cost, expires, recent

    def headers(self) -> Headers:
        """Return the headers with the client's quota."""
        return self._quota.standing(self.recent)

    def refund(self) -> None:
        """Take back the charge for a request that turned out to cost nothing."""
        self._quota.refund(self)

    async def forgive(self) -> None:
        """Do nothing: failures cost what other requests do."""


class AttemptCharge:
    """A request under a strict policy that was charged for, as a failure at first."""

    def __init__(self, quota: PolicyQuota, attempts: AttemptLimiter, key: str, state: AttemptState) -> None:
        self._quota, self._attempts, self._key, self._state = quota, attempts, key, state

    def headers(self) -> Headers:
        """Return the headers with the client's quota."""
        return self._quota.headers(self._state.left, self._state.reset_ms)

    def refund(self) -> None:
        """Do nothing: an attempt is counted whatever its response."""

    async def forgive(self) -> None:
        """Take back the failure: the request succeeded."""
        await self._attempts.forgive(self._key)
