"""Which adapters a process has: URLs say which."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from services.adapters import sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.core.exchange import Exchange
from services.hub import Hub
from services.ports import Bus, Cache, Deps, Journal, Store
from services.settings import Settings


async def _memory_bus(_url: str) -> Bus:
    return MemoryBus()


async def _rabbit_bus(url: str) -> Bus:
    from services.adapters import rabbit  # noqa: PLC0415  a tenth of a second that only who uses it should wait

    return await rabbit.connect(url)


def _redis_cache(url: str) -> Cache:
    from services.adapters.redis import RedisCache  # noqa: PLC0415

    return RedisCache(url)


def _redis_journal(url: str, most_bytes: int) -> Journal:
    from services.adapters.redis import RedisJournal  # noqa: PLC0415

    return RedisJournal(url, most_bytes)


BUSES: Mapping[str, Callable[[str], Awaitable[Bus]]] = {
    "memory": _memory_bus,
    "amqp": _rabbit_bus,
    "amqps": _rabbit_bus,
}
CACHES: Mapping[str, Callable[[str], Cache]] = {
    "memory": lambda _url: MemoryCache(),
    "redis": _redis_cache,
    "rediss": _redis_cache,
}
JOURNALS: Mapping[str, Callable[[str, int], Journal]] = {
    "memory": lambda _url, most_bytes: MemoryJournal(most_bytes),
    "redis": _redis_journal,
    "rediss": _redis_journal,
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
    journal = JOURNALS[urlsplit(cache_url).scheme](cache_url, settings.journal_bytes)
    stack.push_async_callback(journal.close)
    bus = await BUSES[urlsplit(bus_url).scheme](bus_url)
    stack.push_async_callback(bus.close)
    clock = SystemClock()
    return Deps(settings, clock, bus, cache, store, Hub(clock), exchanges, journal)
