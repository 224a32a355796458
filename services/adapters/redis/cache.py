"""The cache on Redis: keys `rate:{BTC-USD}`, `state:{binance}`, `choice:{choice}`; a set of the names for each kind.

Cached bodies are under their callers' keys. The keys of the simulated market begin with `simulated:`.
"""

import logging
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from services.adapters.codec import kind_name
from services.adapters.redis.connection import create_client, key_prefix, translate_errors
from services.adapters.redis.quota_scripts import ADD_RECENT, ATTEMPT, CLOCK_AND_EXPIRY, FORGIVE
from services.core.markets import LIVE, SIMULATED, Market
from services.core.model import ActiveExchange, ExchangeStatus, Rate, partition_key
from services.core.quotas import ATTEMPT_LIFETIME_MS, COUNTED_MS, AttemptRule, AttemptState
from services.core.sender_clocks import MAX_SKEW_MS

TTL_SECONDS = 24 * 60 * 60  # a value that was not renewed for a day is not current
# A process that was paused may continue with old values: the newer value stays. A value from the future, by Redis's
# clock, is replaced by any other and replaces none, as in `replaces` of core/stamps.py.
PUT_NEWER = """
local kept, new, clock = tonumber(redis.call('HGET', KEYS[1], 'time')), tonumber(ARGV[1]), redis.call('TIME')
local latest = clock[1] * 1000 + ARGV[4]
if kept and kept <= latest and (new < kept or new > latest) then return 0 end
redis.call('HSET', KEYS[1], 'time', ARGV[1], 'body', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
INCREMENT = (
    CLOCK_AND_EXPIRY
    + """
redis.call('ZADD', KEYS[1], 'NX', now + ARGV[2] * 1000, ARGV[1])
local totals = {}
for place = 3, #ARGV, 2 do
  totals[#totals + 1] = redis.call('HINCRBY', KEYS[2], ARGV[place], ARGV[place + 1])
end
return totals
"""
)
QUOTA_KEY = "count:{quota}"
T = TypeVar("T", Rate, ExchangeStatus, ActiveExchange)
log = logging.getLogger(__name__)


class RedisCache:
    """Current values of all processes. Every method raises Unavailable within a few seconds."""

    def __init__(self, url: str, market: Market = LIVE) -> None:
        self._redis, self._prefix = create_client(url), key_prefix(market)
        self._simulated = market == SIMULATED

    async def put_latest(self, *items: Rate | ExchangeStatus | ActiveExchange) -> None:
        """Cache the newest of each, in one round trip."""
        with translate_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                for item in items:
                    kind, name = kind_name(type(item)), partition_key(item)
                    redis_key, body = f"{self._prefix}{kind}:{{{name}}}", msgspec.json.encode(item)
                    pipe.sadd(f"{self._prefix}{kind}s", name)
                    pipe.eval(PUT_NEWER, 1, redis_key, item.time, body, TTL_SECONDS, MAX_SKEW_MS)
                await pipe.execute()

    async def rates(self) -> list[Rate]:
        """Return the last rate of each direction."""
        return await self._load_all(Rate)

    async def exchange_statuses(self) -> list[ExchangeStatus]:
        """Return the last status of each exchange."""
        return await self._load_all(ExchangeStatus)

    async def active_exchange(self) -> ActiveExchange | None:
        """Return the active exchange."""
        return next(iter(await self._load_all(ActiveExchange)), None)

    async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Add `counts` to the counters of `window`, which expire `ttl_seconds` after its first. Return the totals."""
        args = [argument for name, number in counts.items() for argument in (name, number)]
        with translate_errors():
            redis_key = f"{self._prefix}count:{{{window.partition(':')[0]}}}"  # permissions depend on its purpose
            totals = await self._redis.eval(
                INCREMENT, 2, redis_key, f"{redis_key}:{window}", window, ttl_seconds, *args
            )
        return dict(zip(counts, totals, strict=True))

    async def add_recent(self, quota: str, counts: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        """Add to the requests of these clients that count at a quota. Return what counts for each."""
        args = [argument for client, count in counts.items() for argument in (client, count)]
        with translate_errors():
            now, *texts = await self._redis.eval(ADD_RECENT, 1, self._prefix + QUOTA_KEY, quota, COUNTED_MS, *args)
        return {client: _parse_recent(text, now) for client, text in zip(counts, texts, strict=True)}

    async def attempt(self, rules: Mapping[str, AttemptRule]) -> dict[str, AttemptState]:
        """Count an attempt under each key at once, unless one of them has to wait."""
        args = [
            argument
            for key, rule in rules.items()
            for argument in (
                key,
                rule.limit,
                rule.free_failures,
                rule.forgiven_ms,
                rule.first_wait_ms,
                rule.max_failures,
            )
        ]
        with translate_errors():
            states = await self._redis.eval(
                ATTEMPT, 1, self._prefix + QUOTA_KEY, ATTEMPT_LIFETIME_MS, COUNTED_MS, *args
            )
        return {key: AttemptState(*state) for key, state in zip(rules, states, strict=True)}

    async def forgive(self, *keys: str) -> None:
        """Take back the failure that an attempt counts as, under each key."""
        with translate_errors():
            await self._redis.eval(FORGIVE, 1, self._prefix + QUOTA_KEY, ATTEMPT_LIFETIME_MS, *keys)

    async def get(self, *keys: str) -> list[bytes | None]:
        """Return the bodies under these keys, in one round trip."""
        with translate_errors():
            bodies = await self._redis.mget(self._prefix + each for each in keys)
        return [None if body is None else str(body).encode() for body in bodies]

    async def set(self, key: str, body: bytes, ttl_seconds: int) -> None:
        """Cache a body."""
        with translate_errors():
            await self._redis.set(self._prefix + key, body, ex=ttl_seconds)

    async def take(self, key: str) -> bytes | None:
        """Return the body under a key and delete it."""
        with translate_errors():
            body = await self._redis.getdel(self._prefix + key)
        return None if body is None else str(body).encode()

    async def delete(self, *keys: str) -> None:
        """Delete the bodies under these keys."""
        with translate_errors():
            await self._redis.delete(*(self._prefix + each for each in keys))

    async def ping(self) -> None:
        """Check that a write succeeds. Raises Unavailable."""
        with translate_errors():
            await self._redis.set(f"{self._prefix}probe", "1", ex=TTL_SECONDS)

    async def close(self) -> None:
        """Close the pool's connections."""
        await self._redis.aclose()

    async def _load_all(self, kind: type[T]) -> list[T]:
        with translate_errors():
            names = sorted(map(str, await self._redis.smembers(f"{self._prefix}{kind_name(kind)}s")))
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hget(f"{self._prefix}{kind_name(kind)}:{{{name}}}", "body")
                bodies = await pipe.execute()
        items = [item for body in bodies if body and (item := _decode(body, kind))]
        # versions before migration 0006 cached both markets under the same keys
        return [item for item in items if isinstance(item, ActiveExchange) or item.simulated == self._simulated]


def _parse_recent(text: str, now: int) -> list[tuple[int, int]]:
    """Return the ms for which requests still count, with how many."""
    entries = (entry.split("=") for entry in text.split())
    return [(min(int(second) * 1000 + COUNTED_MS - now, COUNTED_MS), int(count)) for second, count in entries]


def _decode(body: str, kind: type[T]) -> T | None:
    """Return a value, None for one of another version of Kurs that this version cannot decode."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        log.warning("cache: a %s cannot be decoded and is ignored: %s", kind_name(kind), error)
        return None
