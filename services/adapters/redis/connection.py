"""Connections to Redis, its key prefixes, and its errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from services.adapters import driver_errors
from services.core.errors import Unavailable
from services.core.markets import LIVE, Market
from services.log_throttle import ThrottledLog

FULL = Counter("kurs_cache_full_total", "Times that Redis refused to keep something because its memory is full")
TIMEOUT_SECONDS = 1  # for a connection or a response
MAX_CONNECTIONS = 20  # a task that needs one more waits
_throttled_log = ThrottledLog(logging.getLogger(__name__))


def create_client(url: str) -> Redis:
    """Return a pool of connections to `redis://` or `rediss://`."""
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),  # once, because each pooled connection fails once after a restart of Redis
    )
    return Redis.from_pool(pool)


def key_prefix(market: Market) -> str:
    """Return the prefix of a market's keys. It precedes the braces, which select the cluster's node."""
    return "" if market == LIVE else f"{market}:"


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise errors of Redis in the block as AccessRefused or Unavailable."""
    with driver_errors.translate("the cache (Redis)", (RedisError, OSError), _advice):
        try:
            yield
        except ResponseError as error:
            if "maxmemory" not in str(error):
                raise
            FULL.inc()
            _throttled_log.warning("cache: Redis rejects writes because its memory is full: raise maxmemory")
            raise Unavailable("the cache (Redis) is full: give it more memory (maxmemory)") from None


def _advice(error: Exception) -> str:
    """Return how to fix a refusal that waiting does not end; "" for every other error."""
    match error:
        case NoPermissionError():
            return "Redis denies this user access: grant it with ACL SETUSER"
        case AuthenticationError():
            return "Redis refuses the user or the password: correct REDIS_URL"
        case RedisError() if "DB index is out of range" in str(error):
            return "Redis has no such database: correct the number at the end of REDIS_URL"
    return ""
