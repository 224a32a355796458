"""Quotas: what replicas let through together, whatever the times of the requests, and what that takes."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters.memory import MemoryCache
from services.core.errors import QuotaExceeded, Unavailable
from services.core.quotas import AttemptCounter, AttemptRecord, AttemptRule, AttemptState, RecentCounts
from services.settings import Settings
from services.web.attempt_limiter import MAX_OWN_KEYS, AttemptLimiter
from services.web.quota_policies import API, SIGN_IN
from services.web.rate_limiter import MAX_COUNTED_CLIENTS, SYNC_SECONDS, SYNC_SHARE, ClientRateLimiter
from tests.clocks import ManualClock
from tests.live_objects import live_objects

CLIENT = "203.0.113.7"
MINUTE_MS = 60_000
POLITE_MS = 62_000  # of a client that sends no more than the limit in any such time, no request is refused
LIMITS = st.sampled_from([1, 3, 20, 100])
# Gaps between requests, in ms: most within one burst, some that end near the boundary of a window.
GAPS = st.one_of(st.integers(0, 30), st.integers(0, 2_000), st.integers(59_000, 62_000))


class UnavailableCache(MemoryCache):
    """A cache that does not respond while `down`."""

    down = False

    async def add_recent(self, quota: str, counts: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        if self.down:
            raise Unavailable("down")
        return await super().add_recent(quota, counts)

    async def attempt(self, rules: Mapping[str, AttemptRule]) -> dict[str, AttemptState]:
        if self.down:
            raise Unavailable("down")
        return await super().attempt(rules)


class Replicas:
    """Replicas with one cache, and the times at which they let a request through."""

    def __init__(self, count: int, limit: int, start: int = 1_000) -> None:
        self.clock = ManualClock(start)
        self.cache = UnavailableCache(lambda: self.clock.time / 1000)
        settings = Settings(_env_file=None, api_rate_limit=limit, sign_in_rate_limit=limit)
        self.limiters = [ClientRateLimiter(settings=settings, clock=self.clock, cache=self.cache) for _ in range(count)]
        self.admitted, self.refusals = list[int](), list[QuotaExceeded]()
        self._synced_at = start

    async def request(self, gap: int, replica: int) -> None:
        """Let a time pass, and send a request to a replica."""
        await self.wait(gap)
        limiter = self.limiters[replica % len(self.limiters)]
        try:
            limiter.charge(API, CLIENT)
        except QuotaExceeded as error:
            self.refusals.append(error)
        else:
            self.admitted.append(self.clock.time)
        if limiter.sync_is_due:
            await limiter.sync_once()

    async def sign_in(self, gap: int, replica: int) -> None:
        """Let a time pass, and succeed in signing in, unless that is refused."""
        await self.wait(gap)
        with suppress(QuotaExceeded):
            charge = await self.limiters[replica % len(self.limiters)].attempt(SIGN_IN, CLIENT)
            assert charge
            self.admitted.append(self.clock.time)
            await charge.forgive()

    async def wait(self, milliseconds: int) -> None:
        """Let a time pass, in which the replicas synchronise as they do each half second."""
        until = self.clock.time + milliseconds
        while self._synced_at + SYNC_SECONDS * 1000 <= until:
            self._synced_at += round(SYNC_SECONDS * 1000)
            self.clock.time = self._synced_at
            for limiter in self.limiters:
                await limiter.sync_once()
        self.clock.time = until

    def most_in_a_minute(self) -> int:
        """Return the largest number that was let through within 60 s."""
        return max((bisect(self.admitted, at, at + MINUTE_MS) for at in self.admitted), default=0)


def bisect(times: Sequence[int], since: int, until: int) -> int:
    """Return how many times are in [since, until)."""
    return sum(since <= time < until for time in times)


@given(st.integers(1, 3), LIMITS, st.lists(st.tuples(GAPS, st.integers(0, 2)), max_size=300), st.integers(0, 61_000))
def test_no_minute_has_more_requests_than_the_limit(
    count: int, limit: int, requests: list[tuple[int, int]], start: int
) -> None:
    """Two or three replicas let a twentieth more through, each."""
    replicas = Replicas(count, limit, start)

    async def run() -> None:
        for gap, replica in requests:
            await replicas.request(gap, replica)

    asyncio.run(run())
    tolerance = count * max(limit // SYNC_SHARE, 1) if count > 1 else 0
    assert replicas.most_in_a_minute() <= limit + tolerance


@given(st.integers(1, 3), LIMITS, st.lists(st.tuples(GAPS, st.integers(0, 2)), max_size=300), st.integers(0, 61_000))
def test_client_that_keeps_to_the_limit_is_never_refused(
    count: int, limit: int, requests: list[tuple[int, int]], start: int
) -> None:
    """Whether it sends one by one, or all at once and then waits."""
    replicas, sent = Replicas(count, limit, start), list[int]()

    async def run() -> None:
        for gap, replica in requests:
            at = replicas.clock.time + gap
            if len(sent) >= limit:
                at = max(at, sent[-limit] + POLITE_MS)
            sent.append(at)
            await replicas.request(at - replicas.clock.time, replica)

    asyncio.run(run())
    assert not replicas.refusals


@given(st.integers(1, 3), LIMITS, st.lists(st.tuples(GAPS, st.integers(0, 2)), max_size=200), st.integers(0, 61_000))
def test_strict_policy_is_exact_over_all_replicas(
    count: int, limit: int, requests: list[tuple[int, int]], start: int
) -> None:
    replicas, polite = Replicas(count, limit, start), Replicas(count, limit, start)

    async def run() -> None:
        for gap, replica in requests:
            await replicas.sign_in(gap, replica)
            wait = polite.admitted[-limit] + POLITE_MS - polite.clock.time if len(polite.admitted) >= limit else 0
            await polite.sign_in(max(gap, wait), replica)

    asyncio.run(run())
    assert replicas.most_in_a_minute() <= limit
    assert len(polite.admitted) == len(requests)


@given(st.lists(st.tuples(GAPS, st.integers(0, 1)), min_size=1, max_size=200))
def test_client_that_returns_when_it_may_is_served(requests: list[tuple[int, int]]) -> None:
    replicas = Replicas(2, 3)

    async def run() -> None:
        for gap, replica in requests:
            refused = len(replicas.refusals)
            await replicas.request(gap, replica)
            if len(replicas.refusals) > refused:
                seconds = int(dict(replicas.refusals[-1].headers)[b"retry-after"])
                assert 1 <= seconds <= 62
                await replicas.request(seconds * 1000, replica)
                assert len(replicas.refusals) == refused + 1

    asyncio.run(run())


async def test_without_the_cache_each_replica_counts_alone_and_none_stops_counting() -> None:
    replicas = Replicas(2, 10)
    for step in range(3):
        replicas.cache.down = step == 1
        replicas.admitted.clear()
        for number in range(200):
            await replicas.request(10, number)
        await replicas.wait(65_000)
        assert len(replicas.admitted) == (20 if replicas.cache.down else pytest.approx(11, abs=1))


async def test_cache_that_was_emptied_frees_no_client() -> None:
    replicas = Replicas(1, 10)
    for _ in range(10):
        await replicas.request(100, 0)
    await replicas.wait(5_000)
    replicas.cache._recent.clear()
    await replicas.wait(5_000)
    await replicas.request(100, 0)
    assert len(replicas.refusals) == 1


async def test_refunded_request_does_not_count() -> None:
    """Even if the other replicas were sent it already."""
    replicas = Replicas(2, 5)
    for number in range(40):
        charge = replicas.limiters[0].charge(API, CLIENT)
        assert charge
        if number % 3:
            await replicas.wait(700)
        charge.refund()
    await replicas.wait(1_000)
    for replica in (0, 1, 1, 0, 1):
        await replicas.request(1_000, replica)
    assert not replicas.refusals
    late = replicas.limiters[0].charge(API, "203.0.113.8")
    assert late
    await replicas.wait(70_000)
    for _ in range(5):
        replicas.limiters[0].charge(API, "203.0.113.8")
    late.refund()
    with pytest.raises(QuotaExceeded):
        replicas.limiters[0].charge(API, "203.0.113.8")


async def test_cost_is_charged_as_a_whole_or_not_at_all() -> None:
    limiter = Replicas(1, 20).limiters[0]
    limiter.charge(API, CLIENT, 10)
    with pytest.raises(QuotaExceeded) as refused:
        limiter.charge(API, CLIENT, 11)
    assert (b"x-ratelimit-remaining", b"10") in refused.value.headers
    limiter.charge(API, CLIENT, 10)
    limiter.charge(API, "203.0.113.8", 1_000)  # as much as there is


async def test_million_addresses_take_bounded_memory_and_keep_the_limits() -> None:
    """Those that came first have counters of their own. Counters of two minutes, here and in the cache, are kept."""
    replicas, before = Replicas(1, 100), len(live_objects(RecentCounts))  # of other tests
    limiter = replicas.limiters[0]
    for _ in range(100):
        await replicas.request(0, 0)
    for number in range(1_000_000):
        with suppress(QuotaExceeded):
            limiter.charge(API, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if not number % 250_000:
            await replicas.wait(1_000)
    await limiter.sync_once()
    await replicas.wait(61_000)
    for number in range(3 * MAX_COUNTED_CLIENTS):
        limiter.charge(API, f"172.16.{number // 256}.{number % 256}")
    await limiter.sync_once()
    assert len(live_objects(RecentCounts)) - before <= 2 * 2 * 2 * MAX_COUNTED_CLIENTS
    for _ in range(100):
        await replicas.request(0, 0)
    replicas.refusals.clear()
    await replicas.request(0, 0)
    assert len(replicas.refusals) == 1
    for _ in range(2):
        await replicas.wait(200_000)
        await replicas.request(0, 0)
    assert len(replicas.refusals) == 1
    assert len(live_objects(RecentCounts)) - before <= 2 * 2


async def test_any_number_of_names_takes_bounded_memory() -> None:
    clock, before = ManualClock(1_000), len(live_objects(AttemptRecord))
    cache, rule = MemoryCache(lambda: clock.time / 1000), AttemptRule(0, 5, 900_000)
    limiter = AttemptLimiter(cache, clock)
    for _ in range(6):
        await limiter.attempt({"name:first": rule})
    for number in range(100_000):
        await limiter.attempt({f"name:{number}": rule})
    assert len(live_objects(AttemptRecord)) - before <= 2 * MAX_OWN_KEYS
    assert (await limiter.attempt({"name:first": rule}))["name:first"].wait_ms == 1_000


def waits(rule: AttemptRule, gap: Callable[[int], int], count: int) -> Iterator[int]:
    """Yield the wait before each of so many failing attempts that come `gap(wait)` after the one before."""
    counter, now = AttemptCounter(), 1_000
    for _ in range(count):
        wait = counter.attempt({"a": rule}, now)["a"].wait_ms
        if wait:
            assert not counter.attempt({"a": rule}, now + wait)["a"].wait_ms, "it came when it was to"
        yield wait
        now += wait + gap(wait)


def test_failures_beyond_the_free_ones_double_the_wait_up_to_its_longest() -> None:
    rule = AttemptRule(0, 5, forgiven_ms=900_000)
    seconds = [round(wait / 1000) for wait in waits(rule, lambda _: 1, 14)]
    assert seconds[:6] == [0] * 6
    assert seconds[6:11] == [1, 2, 4, 8, 16]
    assert all(after > before for before, after in pairwise(seconds[6:]))
    longest = [round(wait / 1000) for wait in waits(rule, lambda _: 1, 200)]
    assert max(longest) <= 900
    assert longest[-1] > 400


def test_failures_are_forgotten_one_by_one() -> None:
    rule = AttemptRule(0, 5, forgiven_ms=900_000)
    assert not any(waits(rule, lambda _: 900_000, 100))


async def test_attempts_under_several_keys_are_counted_all_or_none() -> None:
    counter, strict, loose = AttemptCounter(), AttemptRule(2, 10, 60_000), AttemptRule(5, 10, 60_000)
    for _ in range(10):
        counter.attempt({"strict": strict, "loose": loose}, 1_000)
    assert counter.attempt({"loose": loose}, 1_000)["loose"].left == 2


def test_waiting_is_not_prolonged_by_attempts_while_it_lasts() -> None:
    counter, rule = AttemptCounter(), AttemptRule(0, 2, 60_000)
    for _ in range(3):
        counter.attempt({"a": rule}, 1_000)
    for now in range(1_000, 1_999):
        assert counter.attempt({"a": rule}, now)["a"].wait_ms == 2_000 - now
    assert not counter.attempt({"a": rule}, 2_000)["a"].wait_ms
