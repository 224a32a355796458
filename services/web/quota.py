"""How often a client may ask: so many requests a minute per address, counted together by all replicas."""

import logging
from collections import defaultdict

from starlette.types import Scope

from services.core.errors import QuotaExceeded, Unavailable
from services.ports import Deps
from services.web.addresses import Addresses

WINDOW = 60
AGREE_SECONDS = 0.5
log = logging.getLogger(__name__)
Headers = list[tuple[bytes, bytes]]


class PerClient:
    """Counts here at once; every half second the replicas add up what each has counted, through the cache."""

    def __init__(self, deps: Deps) -> None:
        self._clock, self._cache = deps.clock, deps.cache
        self._limit = deps.settings.api_rate_limit
        self._addresses = Addresses(deps.settings.trusted_proxies)
        self._window = 0
        self._agreed: dict[str, int] = {}
        self._fresh: defaultdict[str, int] = defaultdict(int)

    def admit(self, scope: Scope) -> Headers:
        """The quota headers of a client. Raises QuotaExceeded with them when it has nothing left."""
        client, left_seconds = self._addresses.of(scope), self._roll()
        left = self._limit - self._agreed.get(client, 0) - self._fresh.get(client, 0)
        headers = self._headers(max(left - 1, 0), left_seconds)
        if left > 0:
            return headers
        error = QuotaExceeded(f"{self._limit} requests a minute are allowed; come back in {left_seconds} s")
        error.headers = [*headers, (b"retry-after", b"%d" % left_seconds)]
        raise error

    def charge(self, scope: Scope) -> None:
        """Count one answer."""
        self._fresh[self._addresses.of(scope)] += 1

    async def agree(self, deps: Deps) -> None:
        """The job that adds up with the other replicas. While the cache is away each counts for itself."""
        while True:
            await deps.clock.sleep(AGREE_SECONDS)
            self._roll()
            window, sent = self._window, dict(self._fresh)
            if not sent:
                continue
            try:
                totals = await self._cache.count(f"quota:{window}", 2 * WINDOW, sent)
            except Unavailable as error:
                log.warning("counted for this replica alone: %s", error)
                continue
            if window == self._window:
                self._agreed |= totals
                for client, count in sent.items():
                    self._fresh[client] -= count

    def _roll(self) -> int:
        """Begin a new window when the old one is over; answers the seconds left of the current one."""
        minute, milliseconds = divmod(self._clock.now(), WINDOW * 1000)
        if minute != self._window:
            self._window = minute
            self._agreed.clear()
            self._fresh.clear()
        return WINDOW - milliseconds // 1000

    def _headers(self, left: int, seconds: int) -> Headers:
        return [
            (b"ratelimit-policy", b'"default";q=%d;w=%d' % (self._limit, WINDOW)),
            (b"ratelimit", b'"default";r=%d;t=%d' % (left, seconds)),
            (b"x-ratelimit-limit", b"%d" % self._limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % seconds),
        ]
