"""Opens a process's adapters: the scheme of a URL selects the adapter, the market the part of the server."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import cast
from urllib.parse import urlsplit

from services.account_ports import AccountStore, NoAccountStore
from services.adapters import sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.adapters.remote_store import RemoteStore
from services.adapters.retry import retry_until_available
from services.adapters.sql import accounts
from services.core.errors import Misconfigured
from services.core.exchange import Exchange
from services.core.markets import LIVE, SIMULATED, Market
from services.hub import Hub
from services.ports import Bus, Cache, Deps, Journal, Store
from services.settings import Settings
from services.task_publisher import TaskPublisher

REMOTE_SCHEME = "bus"  # scheme of a DATABASE_URL without a database: the writer answers queries over the bus
log = logging.getLogger(__name__)


async def _memory_bus(_url: str, _market: Market) -> Bus:
    return MemoryBus()


async def _rabbit_bus(url: str, market: Market) -> Bus:
    from services.adapters import rabbit  # noqa: PLC0415  takes 0.1 s to import

    return await rabbit.connect(url, market=market)


def _redis_cache(url: str, market: Market) -> Cache:
    from services.adapters.redis import RedisCache  # noqa: PLC0415

    return RedisCache(url, market)


def _redis_journal(url: str, most_bytes: int, market: Market) -> Journal:
    from services.adapters.redis import RedisJournal  # noqa: PLC0415

    return RedisJournal(url, most_bytes, market)


BUSES: Mapping[str, Callable[[str, Market], Awaitable[Bus]]] = {
    "memory": _memory_bus,
    "amqp": _rabbit_bus,
    "amqps": _rabbit_bus,
}
CACHES: Mapping[str, Callable[[str, Market], Cache]] = {
    "memory": lambda _url, _market: MemoryCache(),
    "redis": _redis_cache,
    "rediss": _redis_cache,
}
JOURNALS: Mapping[str, Callable[[str, int, Market], Journal]] = {
    "memory": lambda _url, most_bytes, _market: MemoryJournal(most_bytes),
    "redis": _redis_journal,
    "rediss": _redis_journal,
}
STORES: Mapping[str, Callable[[str, Market], Awaitable[Store]]] = {
    "sqlite+aiosqlite": sql.connect,
    "postgresql+asyncpg": sql.connect,
}


async def open_adapters(
    settings: Settings, market: Market | None, exchanges: tuple[Exchange, ...], stack: AsyncExitStack, owns: bool
) -> Deps:
    """Open all adapters in a market, and close them with `stack`. Raises Misconfigured.

    Without a market: the one of which data is stored, live if there is data of both.

    `owns`: this process becomes the only writer of SQLite's files. It migrates them, because no other process does.
    """
    remote = _is_remote(settings)
    market, store = (market or LIVE, None) if remote else await _open_store(settings, market, stack, owns)
    bus_url, cache_url = settings.rabbitmq_url.get_secret_value(), settings.redis_url.get_secret_value()
    cache = CACHES[urlsplit(cache_url).scheme](cache_url, market)
    stack.push_async_callback(cache.close)
    journal = JOURNALS[urlsplit(cache_url).scheme](cache_url, settings.journal_bytes, market)
    stack.push_async_callback(journal.close)
    bus = await BUSES[urlsplit(bus_url).scheme](bus_url, market)
    stack.push_async_callback(bus.close)
    clock = SystemClock()
    people: AccountStore = NoAccountStore()
    if store is None:
        store = cast("Store", RemoteStore(bus, clock))
        stack.push_async_callback(store.close)
    else:
        people = accounts.connect(_market_url(settings, market), TaskPublisher(bus))
        stack.push_async_callback(people.close)
    return Deps(
        settings=settings,
        clock=clock,
        bus=bus,
        cache=cache,
        store=store,
        hub=Hub(clock, market),
        exchanges=exchanges,
        journal=journal,
        accounts=people,
    )


async def migrate(settings: Settings, market: Market) -> None:
    """Upgrade a market's database to the newest schema. Raises Misconfigured."""
    if _is_remote(settings):
        raise Misconfigured("DATABASE_URL: bus:// is for collectors only; name the database to migrate")
    with ExitStack() as stack:
        _own_files(settings, stack)
        roles = {name: password.get_secret_value() for name, password in settings.database_roles.items()}
        await sql.migrate(_market_url(settings, market), market, roles)


def _is_remote(settings: Settings) -> bool:
    return urlsplit(settings.database_url.get_secret_value()).scheme == REMOTE_SCHEME


async def _open_store(
    settings: Settings, market: Market | None, stack: AsyncExitStack, owns: bool
) -> tuple[Market, Store]:
    with ExitStack() as check:
        owns_file = urlsplit(settings.database_url_of(LIVE)).scheme.startswith("sqlite")
        try:
            _own_files(settings, stack if owns else check)
        except sql.FilesInUse:
            if owns:
                raise
            owns_file = False  # the owner has migrated it
        market = market or await _stored_market(settings)
        address = _market_url(settings, market)
        if owns_file:
            await sql.migrate(address, market)
        _log_other_market(settings, market)
    store = await STORES[urlsplit(address).scheme](address, market)
    stack.push_async_callback(store.close)
    if address.startswith("sqlite") and not owns_file:
        await retry_until_available(store.check)
    return market, store


def _own_files(settings: Settings, stack: AsyncExitStack | ExitStack) -> None:
    """Lock SQLite's files of both markets. Data that an older version simulated in the live file is moved out."""
    files = dict.fromkeys(sql.sqlite_file(settings.database_url_of(market)) for market in (LIVE, SIMULATED))
    existing = [file for file in files if file]
    stack.enter_context(sql.own_files(existing))
    if len(existing) > 1:
        sql.move_simulated_file(*existing)


async def _stored_market(settings: Settings) -> Market:
    live, simulated = (_market_url(settings, market) for market in (LIVE, SIMULATED))
    return await sql.stored_market(live) or await sql.stored_market(simulated) or LIVE


def _market_url(settings: Settings, market: Market) -> str:
    return sql.market_url(settings.database_url_of(market), market)


def _log_other_market(settings: Settings, market: Market) -> None:
    other = SIMULATED if market == LIVE else LIVE
    file = sql.sqlite_file(settings.database_url_of(other))
    if file and file != sql.sqlite_file(settings.database_url_of(market)) and file.exists():
        log.info("%s holds data of the %s market; this process uses the %s market", file, other, market)
