"""Connections to Redis, its key prefixes, and its errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from services.core.errors import AccessRefused, Unavailable
from services.core.markets import LIVE, Market
from services.log_throttle import ThrottledLog

FULL = Counter("kurs_cache_full_total", "Times that Redis refused to keep something because its memory is full")
TIMEOUT_SECONDS = 1  # for a connection or a response
MAX_CONNECTIONS = 20  # a task that needs one more waits
_throttled_log = ThrottledLog(logging.getLogger("kurs.cache"))


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
    """What goes wrong inside between us and Redis is raised as Unavailable, without its URL."""
    try:
        yield
    except NoPermissionError as error:
        raise AccessRefused(f"Redis gives this user too few rights: grant them with ACL SETUSER ({error})") from None
    except AuthenticationError as error:
        raise AccessRefused(f"Redis refuses the user or the password: correct REDIS_URL ({error})") from None
    except (RedisError, OSError) as error:
        if isinstance(error, ResponseError) and "maxmemory" in str(error):
            FULL.inc()
            _throttled_log.warning("the cache (Redis) is full and keeps nothing more: give it more memory (maxmemory)")
            raise Unavailable("the cache (Redis) is full: give it more memory (maxmemory)") from None
        if "DB index is out of range" in str(error):
            raise AccessRefused(
                f"Redis has no such database: correct the number at the end of REDIS_URL ({error})"
            ) from None
        raise Unavailable(f"the cache (Redis) does not answer: {str(error) or type(error).__name__}") from None
