"""Which adapters a process has: URLs say which."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from services.adapters import rabbit, sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.adapters.redis import RedisCache, RedisJournal
from services.core.exchange import Exchange
from services.hub import Hub
from services.ports import Bus, Cache, Deps, Journal, Store
from services.settings import Settings


async def _memory_bus(_url: str) -> Bus:
    return MemoryBus()


BUSES: Mapping[str, Callable[[str], Awaitable[Bus]]] = {
    "memory": _memory_bus,
    "amqp": rabbit.connect,
    "amqps": rabbit.connect,
}
CACHES: Mapping[str, Callable[[str], Cache]] = {
    "memory": lambda _url: MemoryCache(),
    "redis": RedisCache,
    "rediss": RedisCache,
}
JOURNALS: Mapping[str, Callable[[str], Journal]] = {
    "memory": lambda _url: MemoryJournal(),
    "redis": RedisJournal,
    "rediss": RedisJournal,
}
STORES: Mapping[str, Callable[[str], Awaitable[Store]]] = {
    "sqlite+aiosqlite": sql.connect,
    "postgresql+asyncpg": sql.connect,
}


async def connected(settings: Settings, exchanges: tuple[Exchange, ...], stack: AsyncExitStack) -> Deps:
    """The ports with their adapters. SQLite is migrated here: one process has nobody else to do it."""
    bus_url, cache_url = settings.rabbitmq_url.get_secret_value(), settings.redis_url.get_secret_value()
    if settings.database.startswith("sqlite"):
        await sql.migrate(settings.database)
    store = await STORES[urlsplit(settings.database).scheme](settings.database)
    stack.push_async_callback(store.close)
    cache = CACHES[urlsplit(cache_url).scheme](cache_url)
    stack.push_async_callback(cache.close)
    journal = JOURNALS[urlsplit(cache_url).scheme](cache_url)
    stack.push_async_callback(journal.close)
    bus = await BUSES[urlsplit(bus_url).scheme](bus_url)
    stack.push_async_callback(bus.close)
    return Deps(settings, SystemClock(), bus, cache, store, Hub(), exchanges, journal)
