"""The contract of the cache, on each adapter."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryCache
from services.adapters.redis import RedisCache, RedisJournal
from services.core.errors import Unavailable
from services.core.journal import JournalEntry
from services.core.model import (
    ActiveExchange,
    ExchangeStatus,
    ExchangeSwitch,
    FeedStatus,
    Instrument,
    InstrumentFeed,
    Leg,
    Rate,
    RateCandidate,
)
from services.core.quotas import COUNTED_MS, AttemptRule
from services.ports import Cache
from services.settings import Settings
from services.web.quota_policies import API
from services.web.rate_limiter import MAX_COUNTED_CLIENTS, ClientRateLimiter
from tests import servers
from tests.waiting import eventually

BTC, ETH = Instrument("BTC", "USD"), Instrument("ETH", "RUB", "PERPETUAL")


def rate(direction: Instrument, time: int) -> Rate:
    value = Decimal("54000.000123000000000000000001")
    leg = Leg("binance", direction, value, received=time, confirmed=time, expires=time + 5, own=True, inverted=True)
    return Rate(direction, time, (RateCandidate("binance", (leg,), value, bid=Decimal("1E-12")),))


def exchange_status(exchange: str, time: int) -> ExchangeStatus:
    source = InstrumentFeed(BTC, FeedStatus.SILENT, received=time)
    return ExchangeStatus(exchange, time, True, "socket", "host", "well", time, time, 3, False, (source,))


def active_exchange(time: int) -> ActiveExchange:
    return ActiveExchange(time, "binance", time, "first", 1, (ExchangeSwitch(time, None, "binance", "start"),))


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    server: servers.Server = request.getfixturevalue("redis")
    cache = RedisCache(server.url)
    await cache._redis.flushdb()
    yield cache
    await cache.close()


async def test_empty_cache_returns_nothing(cache: Cache) -> None:
    assert (await cache.rates(), await cache.exchange_statuses(), await cache.active_exchange()) == ([], [], None)


async def test_latest_values_are_returned_with_every_digit(cache: Cache) -> None:
    await cache.put_latest(
        rate(BTC, 1), rate(ETH, 1), exchange_status("binance", 1), exchange_status("deribit", 2), active_exchange(1)
    )
    assert sorted(await cache.rates(), key=repr) == sorted([rate(BTC, 1), rate(ETH, 1)], key=repr)
    assert sorted(await cache.exchange_statuses(), key=repr) == sorted(
        [exchange_status("binance", 1), exchange_status("deribit", 2)], key=repr
    )
    assert await cache.active_exchange() == active_exchange(1)


async def test_older_value_does_not_replace_a_newer_one(cache: Cache) -> None:
    """Neither between two calls nor within one."""
    await cache.put_latest(rate(BTC, 9), exchange_status("binance", 10), active_exchange(1_700_000_000_000))
    await cache.put_latest(
        rate(BTC, 5), rate(BTC, 10), rate(BTC, 7), exchange_status("binance", 9), active_exchange(1_600_000_000_000)
    )
    assert await cache.rates() == [rate(BTC, 10)]
    assert await cache.exchange_statuses() == [exchange_status("binance", 10)]
    assert await cache.active_exchange() == active_exchange(1_700_000_000_000)


async def test_value_from_the_future_is_replaced_and_replaces_none(cache: Cache) -> None:
    now, day = time.time_ns() // 1_000_000, 86_400_000
    await cache.put_latest(
        rate(BTC, now + day), active_exchange(now + day), rate(ETH, now), exchange_status("binance", now)
    )
    await cache.put_latest(
        rate(BTC, now), active_exchange(now), rate(ETH, now + day), exchange_status("binance", now + day)
    )
    assert sorted(await cache.rates(), key=repr) == sorted([rate(BTC, now), rate(ETH, now)], key=repr)
    assert (await cache.exchange_statuses(), await cache.active_exchange()) == (
        [exchange_status("binance", now)],
        active_exchange(now),
    )


async def test_concurrent_writers_leave_the_newest_value(cache: Cache) -> None:
    await asyncio.gather(*(cache.put_latest(rate(BTC, time)) for time in [*range(100, 0, -1), *range(100)]))
    assert await cache.rates() == [rate(BTC, 100)]


async def test_counters_add_up_per_window_and_name(cache: Cache) -> None:
    one, other = uuid4().hex, uuid4().hex
    assert await cache.increment(one, 60, {"10.0.0.1": 2, "10.0.0.2": 1}) == {"10.0.0.1": 2, "10.0.0.2": 1}
    totals = await asyncio.gather(*(cache.increment(one, 60, {"10.0.0.1": 1}) for _ in range(20)))
    assert sorted(total["10.0.0.1"] for total in totals) == list(range(3, 23))
    assert await cache.increment(other, 60, {"10.0.0.1": 1}) == {"10.0.0.1": 1}


async def test_counters_expire_a_fixed_time_after_the_first_increment(cache: Cache) -> None:
    """Further increments do not extend the time."""
    window, number = uuid4().hex, 1
    assert await cache.increment(window, 2, {"a": 1}) == {"a": 1}
    async with asyncio.timeout(30):
        while (total := (await cache.increment(window, 2, {"a": 1}))["a"]) == number + 1:
            number = total
            await asyncio.sleep(0.02)
    assert total == 1
    assert number > 1


async def test_recent_requests_add_up_for_each_quota_and_client(cache: Cache) -> None:
    one, other = uuid4().hex, uuid4().hex
    await cache.add_recent(one, {"192.0.2.1": 2, "192.0.2.2": 1})
    await asyncio.gather(*(cache.add_recent(one, {"192.0.2.1": 1}) for _ in range(20)))
    totals = await cache.add_recent(one, {"192.0.2.1": 0, "192.0.2.2": 1, "192.0.2.3": 0})
    assert {client: sum(count for _, count in entries) for client, entries in totals.items()} == {
        "192.0.2.1": 22,
        "192.0.2.2": 2,
        "192.0.2.3": 0,
    }
    assert all(0 < left <= COUNTED_MS for entries in totals.values() for left, _ in entries)
    assert await cache.add_recent(other, {"192.0.2.1": 0}) == {"192.0.2.1": []}
    await cache.add_recent(one, {"192.0.2.1": -21, "192.0.2.2": -9})
    totals = await cache.add_recent(one, {"192.0.2.1": 0, "192.0.2.2": 0})
    assert ([count for _, count in totals["192.0.2.1"]], totals["192.0.2.2"]) == ([1], [])


async def test_recent_requests_are_counted_by_the_second_oldest_first(cache: Cache) -> None:
    quota = uuid4().hex

    async def three_seconds() -> bool:
        totals = await cache.add_recent(quota, {"a": 1})
        return len(totals["a"]) == 3

    await eventually(three_seconds)
    entries = (await cache.add_recent(quota, {"a": 0}))["a"]
    lefts = [left for left, _ in entries]
    assert lefts == sorted(lefts)
    assert [after - before for before, after in pairwise(lefts)] == [1000, 1000]


async def test_of_attempts_at_once_as_many_as_the_limit_are_allowed(cache: Cache) -> None:
    key, rule = uuid4().hex, AttemptRule(10, 10, 60_000)
    states = [state[key] for state in await asyncio.gather(*(cache.attempt({key: rule}) for _ in range(50)))]
    allowed = [state for state in states if not state.wait_ms]
    assert sorted(state.left for state in allowed) == list(range(10))
    assert all(0 < state.reset_ms <= COUNTED_MS for state in states)
    assert all(0 < state.wait_ms <= COUNTED_MS for state in states if state not in allowed)


async def test_failed_attempts_wait_twice_as_long_each_time_until_forgiven(cache: Cache) -> None:
    key, lenient = uuid4().hex, AttemptRule(0, 100, forgiven_ms=3_600_000)
    rule = AttemptRule(0, 2, forgiven_ms=3_600_000, first_wait_ms=60_000)
    for longest in (0, 0, 0, 60_000, 120_000, 240_000):
        wait = (await cache.attempt({key: rule}))[key].wait_ms if longest else 0
        assert longest / 2 <= wait <= longest
        await cache.attempt({key: lenient})  # a failure more, without the wait
    for _ in range(20):
        await cache.attempt({key: lenient})
    assert 1_800_000 < (await cache.attempt({key: rule}))[key].wait_ms <= 3_600_000
    for _ in range(24):
        await cache.forgive(key, "unknown")
    assert not (await cache.attempt({key: rule}))[key].wait_ms


async def test_attempt_is_counted_under_all_keys_or_none(cache: Cache) -> None:
    strict, loose = uuid4().hex, uuid4().hex
    rules = {strict: AttemptRule(2, 10, 60_000), loose: AttemptRule(9, 10, 60_000)}
    for _ in range(6):
        states = await cache.attempt(rules)
    assert (states[strict].wait_ms > 0, states[loose].wait_ms, states[loose].left) == (True, 0, 7)
    assert (await cache.attempt({loose: rules[loose]}))[loose].left == 6


async def test_body_is_cached_until_it_is_deleted_or_replaced(cache: Cache) -> None:
    one, other, none = (f"candles:{{{uuid4().hex}}}" for _ in range(3))
    await cache.set(one, b'{"a":"\xc3\xa9"}', 60)
    await cache.set(other, b"2", 60)
    assert await cache.get(other, none, one) == [b"2", None, b'{"a":"\xc3\xa9"}']
    await cache.set(other, b"3", 60)
    assert await cache.get(other) == [b"3"]
    await cache.delete(one, none)
    assert await cache.get(one, other) == [None, b"3"]


async def test_body_expires_after_its_ttl(cache: Cache) -> None:
    key = uuid4().hex
    await cache.set(key, b"1", 1)
    async with asyncio.timeout(30):
        while (body := await cache.get(key)) == [b"1"]:
            await asyncio.sleep(0.02)
    assert body == [None]


async def test_body_is_taken_once(cache: Cache) -> None:
    await cache.set("ticket", "für 1".encode(), 9)
    taken = await asyncio.gather(*(cache.take("ticket") for _ in range(20)))
    assert sorted(filter(None, taken)) == ["für 1".encode()]
    assert await cache.get("ticket") == [None]
    assert await cache.take("ticket") is None


async def test_ping_of_a_running_cache_succeeds(cache: Cache) -> None:
    await cache.ping()


async def test_redis_is_reconnected_after_a_restart_and_unavailable_while_down(
    redis: servers.Server,
) -> None:
    cache = RedisCache(redis.url)
    try:
        await asyncio.gather(*(cache.put_latest(rate(BTC, time)) for time in range(30)))  # opens all connections
        await asyncio.to_thread(redis.restart)
        await asyncio.gather(*(cache.put_latest(rate(BTC, time)) for time in range(30, 60)))
        assert await cache.rates() == [rate(BTC, 59)]
        redis.pause()
        with pytest.raises(Unavailable, match="Redis"):
            await asyncio.wait_for(cache.put_latest(rate(BTC, 61)), 30)
        redis.resume()
        await cache.put_latest(rate(BTC, 62))
        await asyncio.to_thread(redis.stop)
        for call in (
            cache.ping(),
            cache.rates(),
            cache.put_latest(rate(BTC, 63)),
            cache.increment("w", 1, {"a": 1}),
            cache.add_recent("q", {"a": 1}),
            cache.attempt({"a": AttemptRule(1, 1, 60_000)}),
            cache.forgive("a"),
        ):
            with pytest.raises(Unavailable, match="Redis"):
                await asyncio.wait_for(call, 30)
    finally:
        redis.resume()
        if not redis.process:
            await asyncio.to_thread(redis.start)
        await cache.close()


async def test_counters_of_many_clients_take_bounded_memory_in_redis_and_are_deleted(
    redis: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of three replicas counts addresses of its own, far more than get counters of their own."""
    cache = RedisCache(redis.url)
    server = cache._redis
    try:
        await server.flushdb()
        before = (await server.info("memory"))["used_memory"]
        for replica in range(3):
            limiter = ClientRateLimiter(settings=Settings(_env_file=None), clock=SystemClock(), cache=cache)
            for number in range(3 * MAX_COUNTED_CLIENTS):
                limiter.charge(API, f"10.{replica}.{number // 256}.{number % 256}")
            await limiter.sync_once()
        fields = sum([await server.hlen(key) for key in await server.keys("count:{quota}:*")])
        assert 3 * MAX_COUNTED_CLIENTS < fields <= 4 * MAX_COUNTED_CLIENTS
        assert (await server.info("memory"))["used_memory"] - before < 4 * MAX_COUNTED_CLIENTS * 150
        await server.flushdb()
        monkeypatch.setattr("services.adapters.redis.cache.COUNTED_MS", 500)
        seen = set[str]()

        async def many_generations() -> bool:
            await cache.add_recent("api", {uuid4().hex: 1})
            keys = await server.keys("count:{quota}:api:*")
            seen.update(map(str, keys))
            assert len(keys) <= 3
            return len(seen) > 6

        await eventually(many_generations)
    finally:
        await server.flushdb()
        await cache.close()


async def test_full_redis_evicts_bodies_but_no_counters(redis: servers.Server) -> None:
    """With the policy of docker-compose.yml. If nothing can be evicted, a call raises Unavailable."""
    cache, journal = RedisCache(redis.url), RedisJournal(redis.url, 4_000_000)
    server, once = cache._redis, AttemptRule(1, 1, 60_000)
    await server.flushall()
    try:
        base = (await server.info("memory"))["used_memory"]
        await server.config_set("maxmemory-policy", container_eviction_policy())
        await server.config_set("maxmemory", base + 8_000_000)
        for window in range(4):
            await cache.increment(f"history:binance:{window}", 120, {"weight": 7})
        await cache.add_recent("api", {"a": 7})
        await cache.attempt({"a": once})
        for number in range(400):
            await cache.set(f"candles:{number}", b"x" * 100_000, 600)
        for topic in range(60):
            entries = [
                JournalEntry(f"candle:a:{topic}:1m", n * 1000, (n - 1) * 1000, "k", "x" * 300, n) for n in range(1, 400)
            ]
            await journal.append(*entries)
        for window in range(4):
            assert await cache.increment(f"history:binance:{window}", 120, {"weight": 7}) == {"weight": 14}
        assert sum(count for _, count in (await cache.add_recent("api", {"a": 7}))["a"]) == 14
        assert (await cache.attempt({"a": once}))["a"].wait_ms
        await cache.ping()
        await server.config_set("maxmemory", 1_000_000)
        await server.config_set("maxmemory-policy", "noeviction")
        for call in (
            cache.ping(),
            cache.increment("w", 1, {"a": 1}),
            cache.add_recent("api", {"a": 1}),
            cache.attempt({"a": once}),
            cache.set("a", b"1", 9),
            cache.put_latest(rate(BTC, 1)),
        ):
            with pytest.raises(Unavailable, match="full"):
                await call
        with pytest.raises(Unavailable, match="full"):
            await journal.append(JournalEntry("rates", 1, 0, "", "{}", 1))
        await server.config_set("maxmemory", 0)
        assert await cache.increment("history:binance:0", 120, {"weight": 7}) == {"weight": 21}
    finally:
        await server.config_set("maxmemory", 0)
        await server.flushall()
        await cache.close()
        await journal.close()


def container_eviction_policy() -> str:
    """Return the eviction policy of the Redis in docker-compose.yml."""
    command = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]["redis"][
        "command"
    ]
    return str(command[command.index("--maxmemory-policy") + 1])


@pytest.mark.parametrize("size", [10, 10_000])
async def test_memory_cache_is_bounded_by_the_bytes_of_its_bodies(size: int) -> None:
    cache = MemoryCache(most_bytes=100_000)
    for number in range(3_000):
        await cache.set(f"k{number}", b"x" * size, 60)
    cached = [body for body in await cache.get(*(f"k{number}" for number in range(3_000))) if body]
    assert 0 < len(cached) * size <= 100_000
    assert await cache.get("k2999") == [b"x" * size]
    assert len(cached) > 100_000 / (size + 300) - 2


async def test_error_of_a_missing_redis_does_not_show_the_password(caplog: pytest.LogCaptureFixture) -> None:
    cache = RedisCache(f"redis://:a-secret@127.0.0.1:{servers.free_port()}/0")
    with pytest.raises(Unavailable, match="Redis") as refused:
        await cache.ping()
    assert "a-secret" not in caplog.text + str(refused.value)
    await cache.close()
