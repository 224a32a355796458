"""Attempts that must not be made often, such as to sign in: counted by all replicas together before each is made."""

import logging
from collections.abc import Mapping

from services.core.errors import Unavailable
from services.core.quotas import ATTEMPT_LIFETIME_MS, AttemptCounter, AttemptRule, AttemptState, GenerationalMap
from services.log_throttle import ThrottledLog
from services.ports import Cache, Clock

MAX_OWN_KEYS = 10_000  # in an hour or two; later ones share as many counters
ALONE_MS = 1_000  # in which a cache that did not respond is not tried again
log = logging.getLogger(__name__)


class AttemptLimiter:
    """Decides in the shared cache, in one step, so that no two replicas let the same attempt through.

    Without the cache this replica counts alone.
    """

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache, self._monotonic = cache, clock.monotonic
        self._keys: GenerationalMap[bool] = GenerationalMap(ATTEMPT_LIFETIME_MS)
        self._alone, self._alone_until = AttemptCounter(), 0
        self._throttled_log = ThrottledLog(log)

    async def attempt(self, rules: Mapping[str, AttemptRule]) -> dict[str, AttemptState]:
        """Count an attempt under each key, a failure at first, unless one of them has to wait."""
        counted = {self._bounded(key): rule for key, rule in rules.items()}
        states = await self._decide(counted)
        return dict(zip(rules, states.values(), strict=True))

    async def forgive(self, *keys: str) -> None:
        """Take back the failure that an attempt counts as, under each key."""
        counted = list(map(self._bounded, keys))
        self._alone.forgive(counted, self._monotonic())
        try:
            await self._cache.forgive(*counted)
        except Unavailable as error:
            self._count_alone(error)

    async def _decide(self, rules: Mapping[str, AttemptRule]) -> dict[str, AttemptState]:
        if self._monotonic() >= self._alone_until:
            try:
                return await self._cache.attempt(rules)
            except Unavailable as error:
                self._count_alone(error)
        return self._alone.attempt(rules, self._monotonic())

    def _count_alone(self, error: Unavailable) -> None:
        self._alone_until = self._monotonic() + ALONE_MS
        self._throttled_log.warning("attempts: counted by this replica alone: %s", error)

    def _bounded(self, key: str) -> str:
        """Return the key of an attempt's counter. To bound memory, late ones share counters with their kind."""
        if self._keys.get(key, self._monotonic()):
            return key
        own = self._keys.own_or_shared(key, MAX_OWN_KEYS)
        if own != key:
            return key.partition(":")[0] + own
        self._keys.put(key, True)
        return key
