"""The store on SQL: transactions around the statements of the tables' modules."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.adapters.sql import (
    analysis_table,
    bulk,
    candle_gaps_table,
    candles_table,
    coverage_queries,
    cursors_table,
    dead_letters_table,
    feed_gaps_table,
    indicators_table,
    rates_table,
    role_lock,
    seals_table,
    trading_rules_table,
)
from services.adapters.sql import engine as engines
from services.adapters.sql.migrate import check_schema
from services.adapters.sql.save_outcomes import SaveOutcomes
from services.core.analysis import Analysis
from services.core.coverage import SeriesCoverage
from services.core.dead_letters import DeadLetter
from services.core.markets import LIVE, Market
from services.core.minute_builder import TradeCursor
from services.core.model import Candle, CandleGap, CandleGapState, FeedGap, IndicatorValue, Rate, Series
from services.core.seals import Seal
from services.core.times import FAR_FUTURE
from services.core.trading_rules import TradingRules
from services.leases import Lease

# A new plan for all partitions would take a fifth of a statement's time.
BEGIN = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan"
Storable = (
    Rate | FeedGap | Candle | CandleGap | Seal | TradeCursor | IndicatorValue | Analysis | TradingRules | DeadLetter
)

SAVERS: Mapping[type[Storable], Callable[[AsyncConnection, list[Any]], Awaitable[None]]] = {
    Rate: rates_table.save,
    FeedGap: feed_gaps_table.save,
    CandleGap: candle_gaps_table.save,
    Seal: seals_table.save,
    TradeCursor: cursors_table.save,
    IndicatorValue: indicators_table.save,
    Analysis: analysis_table.save,
    TradingRules: trading_rules_table.save,
    DeadLetter: dead_letters_table.save,
}


async def connect(url: str, market: Market = LIVE) -> "SqlStore":
    """Return a store on `postgresql+asyncpg://` or `sqlite+aiosqlite://`. It connects when first used."""
    return SqlStore(engines.make_engine(url), market)


class SqlStore:
    """What is stored for good. Every method raises Unavailable when the database cannot be reached."""

    def __init__(self, engine: AsyncEngine, market: Market = LIVE) -> None:
        self._engine = self._autocommit = engine
        self._market = market
        self._seen, self._outcomes = bulk.SeenRange(), SaveOutcomes()
        self._postgres = engine.dialect.name == "postgresql"
        if self._postgres:  # on SQLite this would await the driver, and a cancelled task would lose its connection
            self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")  # saves a BEGIN and a ROLLBACK

    async def save(self, *items: Storable) -> None:
        """Save the newest rate of each direction, every feed gap once, and everything else as given: all or nothing."""
        kinds = defaultdict[type, list[Any]](list)
        for item in items:
            kinds[type(item)].append(item)
        with self._outcomes.recording(list(kinds)):
            runs = candles_table.to_runs(kinds.pop(Candle, ()))
            await bulk.retry_copy(partial(self._save, runs, kinds))

    async def _save(self, runs: Sequence[bulk.CandleRun], kinds: Mapping[type, list[Any]]) -> None:
        async with engines.translate_errors(self._engine), self._transaction(bulk.advisory_locks(runs)) as connection:
            if runs:
                await candles_table.save(connection, runs, self._seen)
            for kind, save in SAVERS.items():
                if kind in kinds:
                    await save(connection, kinds[kind])

    async def candles(
        self, series: Series, since: int, until: int, limit: int | None = None, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first, also the forming one; the first `limit`.

        Candles that are not closed are left out if they opened before `forming_since`.
        """
        span = candles_table.range_query(since, until, limit, forming_since)
        async with self._connection() as connection:
            return candles_table.to_candles(series, await candles_table.select_oldest(connection, series, span))

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Return the newest `count` candles with open times up to `until`, oldest first; `forming_since` as above."""
        span = candles_table.range_query(-FAR_FUTURE, until, count, forming_since)
        async with self._connection() as connection:
            return candles_table.to_candles(series, await candles_table.select_latest(connection, series, span))

    async def series(self) -> dict[Series, tuple[int, int]]:
        """Return every stored series with its first and last open time."""
        async with self._connection() as connection:
            return await candles_table.list_series(connection)

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times in [since, until], both ends inclusive, without a closed candle."""
        async with self._connection() as connection:
            return await coverage_queries.missing_ranges(connection, series, since, until)

    async def unconfirmed_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times of closed candles built from trades and not confirmed by a kline."""
        async with self._connection() as connection:
            return await candles_table.unconfirmed_ranges(connection, series, since, until)

    async def coverage(self, series: Series, since: int, until: int) -> SeriesCoverage:
        """Return which closed candles with open times in [since, until] are stored."""
        async with self._connection() as connection:
            return await coverage_queries.coverage(connection, series, since, until)

    async def candle_gaps_within(self, series: Series, since: int, until: int) -> list[CandleGap]:
        """Return candle gaps of a series that overlap [since, until], oldest first."""
        async with self._connection() as connection:
            return await candle_gaps_table.load_overlapping(connection, series, since, until)

    async def candle_gaps(
        self, state: CandleGapState, series: Series | None = None, limit: int | None = None
    ) -> list[CandleGap]:
        """Return all candle gaps in that state, or those of one series; the newest `limit`."""
        async with self._connection() as connection:
            return await candle_gaps_table.load(connection, state, series, limit)

    async def cursors(self) -> list[TradeCursor]:
        """Return the last trade built into the candles of each series."""
        async with self._connection() as connection:
            return await cursors_table.load(connection)

    async def seals(self, series: Series, since: int, until: int) -> list[Seal]:
        """Return the newest revision of the seals of days in [since, until], oldest first."""
        async with self._connection() as connection:
            return await seals_table.load(connection, series, since, until)

    async def indicator_values(self, series: Series, since: int, until: int) -> list[IndicatorValue]:
        """Return indicator values at closed candles with open times in [since, until], oldest first."""
        async with self._connection() as connection:
            return await indicators_table.load(connection, series, since, until)

    async def analyses(self, series: Series, since: int, until: int) -> list[Analysis]:
        """Return analyses of closed candles with open times in [since, until], oldest first."""
        async with self._connection() as connection:
            return await analysis_table.load(connection, series, since, until)

    async def trading_rules(self, exchange: str | None = None) -> list[TradingRules]:
        """Return the trading rules of one exchange or of all, in the order of exchange and symbol."""
        async with self._connection() as connection:
            return await trading_rules_table.load(connection, exchange)

    async def delete_derived(self, series: Series, since: int, until: int) -> None:
        """Delete indicator values and analyses of candles with open times in [since, until]."""
        async with engines.translate_errors(self._engine), self._transaction() as connection:
            await indicators_table.delete_between(connection, series, since, until)
            await analysis_table.delete_between(connection, series, since, until)

    async def delete_indicator_values(self, series: Series) -> None:
        """Delete all indicator values of a series, but no analyses."""
        async with engines.translate_errors(self._engine), self._transaction() as connection:
            await indicators_table.delete_between(connection, series, 0, FAR_FUTURE)

    async def delete_candles(self, series: Series, since: int) -> int:
        """Delete candles with open times from `since` on, and everything derived from them. Return how many."""
        async with engines.translate_errors(self._engine), self._transaction() as connection:
            for forget in (indicators_table.delete_between, analysis_table.delete_between):
                await forget(connection, series, since, FAR_FUTURE)
            await cursors_table.delete_from(connection, series, since)
            await candle_gaps_table.delete_from(connection, series, since)
            await seals_table.delete_from(connection, series, since)
            return await candles_table.delete_from(connection, series, since)

    async def rates(self) -> list[Rate]:
        """Return the last known rate of each direction."""
        async with self._connection() as connection:
            return await rates_table.load(connection)

    async def feed_gaps(self, since: int, until: int) -> list[FeedGap]:
        """Return feed gaps that overlap [since, until], oldest first."""
        async with self._connection() as connection:
            return await feed_gaps_table.load(connection, since, until)

    def hold_role(self, role: str, on_wait: Callable[[str], None], elected: bool) -> AbstractAsyncContextManager[Lease]:
        """Hold a role as soon as no other process does. A SQLite file is locked by one process from the start."""
        return role_lock.hold_role(self._autocommit, role, on_wait, elected) if self._postgres else nullcontext(Lease())

    async def check(self) -> None:
        """Check that the database has this version's schema and this market. Raises Unavailable, Refused."""
        async with self._connection() as connection:
            await connection.run_sync(check_schema, self._market)

    async def dead_letters(self, replay: bool = False) -> list[DeadLetter]:
        """Return dead letters, oldest first; with `replay` only those to be published again."""
        async with self._connection() as connection:
            return await dead_letters_table.load(connection, replay)

    async def count_dead_letters(self) -> int:
        """Return the number of dead letters."""
        async with self._connection() as connection:
            return await dead_letters_table.count(connection)

    async def request_replay(self, *ids: str) -> None:
        """Mark dead letters to be published again by the writer."""
        async with engines.translate_errors(self._engine), self._transaction() as connection:
            await dead_letters_table.request_replay(connection, ids)

    async def drop_dead_letters(self, *ids: str, replayed: bool = False) -> None:
        """Delete dead letters; with `replayed` only those marked for publishing that have not come back since."""
        async with engines.translate_errors(self._engine), self._transaction() as connection:
            await dead_letters_table.drop(connection, ids, replayed)

    async def ping(self) -> None:
        """Check that the database responds. Raises Unavailable."""
        await engines.ping(self._engine)

    async def check_writable(self) -> None:
        """Check that saving works: by the last save, otherwise by a write that changes nothing. Raises Unavailable."""
        if not self._outcomes.is_proven():
            async with engines.translate_errors(self._engine), self._transaction() as connection:
                await analysis_table.probe_write(connection)

    async def close(self) -> None:
        """Close the pool's connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, locks: Iterable[int] = ()) -> AsyncIterator[AsyncConnection]:
        """Open a transaction, on PostgreSQL without SQLAlchemy and with the advisory locks in the same round trip."""
        if not self._postgres:
            async with self._engine.begin() as connection:
                yield connection
            return
        async with self._autocommit.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                turn = ", ".join(f"pg_advisory_xact_lock({lock})" for lock in locks)
                await driver.execute(f"{BEGIN}; SELECT {turn}" if turn else BEGIN)
                yield connection
                await driver.execute("COMMIT")
            except BaseException:
                with suppress(*engines.DRIVER_ERRORS):  # a lost connection has nothing to roll back
                    await driver.execute("ROLLBACK")
                raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        async with engines.translate_errors(self._engine), self._autocommit.connect() as connection:
            yield connection
