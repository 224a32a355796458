"""The analyst: its rows match the stored candles whatever it missed, and it publishes forming values."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from services.adapters.memory import MemoryBus, MemoryJournal
from services.analyst import JOBS
from services.analyst.analysis_scheduler import FULL_RELOAD_MS
from services.analyst.backfill_monitor import COLLECTOR_SILENT_MS
from services.analyst.jobs import analyse, delete_old_rows
from services.analyst.series_window import RELOAD_MAX_DELAY_MS, RELOAD_QUIET_MS, VERIFIED_CANDLES
from services.core.indicators import STANDARD, compute, parse_specs, to_columns
from services.core.model import (
    BackfillProgress,
    Bar,
    Candle,
    CandleSource,
    ExchangeStatus,
    IndicatorRequest,
    IndicatorValue,
    Instrument,
    Message,
    Series,
    SeriesProgress,
)
from services.core.timeframes import MINUTE_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.exchanges import configured_exchanges
from services.ports import Deps
from services.settings import Settings
from tests.api import BTC, FORMING_OPEN_TIME, NOW, CallCounter
from tests.clocks import ManualClock
from tests.deps import make_deps
from tests.expected_analysis import Row, compare_stored, expected_rows
from tests.failing_store import FailingStore
from tests.jobs import recorded_messages, running_jobs
from tests.waiting import eventually

Job = Callable[[Deps], Coroutine[Any, Any, None]]
HOURS = BTC._replace(timeframe="1h")
YEAR_START_MS = 1_767_225_600_000  # 2026, the last complete year


class AnalystPorts:
    """A store, a bus and a clock for the analyst. A test sets the clock."""

    def __init__(self) -> None:
        self.rows, self.bus, self.clock = FailingStore(), MemoryBus(queues={}), ManualClock(NOW)
        self.journal = MemoryJournal()
        self.store = CallCounter(self.rows)
        self._true: dict[Series, tuple[list[Candle], list[Row]]] = {}

    def deps(self, **settings: Any) -> Deps:
        chosen = Settings(_env_file=None, **settings)
        store: Any = self.store
        return make_deps(
            chosen,
            clock=self.clock,
            bus=self.bus,
            store=store,
            exchanges=configured_exchanges(chosen),
            journal=self.journal,
        )

    async def save(self, *candles: Candle, publish: bool = True) -> None:
        """Save candles, then publish them, as the writer does."""
        for candle in candles:
            self.rows.candle_rows.setdefault(candle.series, {})[candle.bar.open_time] = candle
        if publish:
            await self.bus.publish(*candles)

    async def rows_match(self, *series: Series, days: Sequence[Candle] = ()) -> bool:
        """Return whether the rows of the newest candles are right. `days`: the 1d candles of their price levels."""
        self.clock.time += RELOAD_QUIET_MS
        expected = {each: await self._expected(each) for each in series}
        if days:
            expected = {
                each: expected_rows(each, await self.rows.latest_candles(each, FAR_FUTURE, 9999), days)
                for each in series
            }
        return not [d for each, rows in expected.items() for d in await compare_stored(self.rows, each, rows)]

    async def _expected(self, series: Series) -> list[Row]:
        candles = await self.rows.latest_candles(series, FAR_FUTURE, 9999)
        if self._true.get(series, ([], []))[0] != candles:
            self._true[series] = candles, expected_rows(series, candles)
        return self._true[series][1]


@pytest.fixture
def ports() -> AnalystPorts:
    return AnalystPorts()


@asynccontextmanager
async def run_analyst(deps: Deps, *jobs: Job) -> AsyncIterator[list[IndicatorValue]]:
    """Run the analyst until the block ends; the list has the indicator values that it publishes.

    It deletes old rows only where that job is among `jobs`.
    """
    async with (
        recorded_messages(deps.bus, IndicatorValue) as values,
        running_jobs(*(job(deps) for job in jobs or [analyse])),
    ):
        yield values


def random_walk(series: Series, count: int, seed: int = 1) -> list[Candle]:
    """Return the newest closed candles of a series, as a random walk."""
    chance, frame, price = random.Random(seed), TIMEFRAMES[series.timeframe], 1000.0
    opening, found = frame.step_back(frame.open_time(FORMING_OPEN_TIME), count), []
    for _ in range(count):
        last, price = price, price * (1 + chance.gauss(0, 0.002))
        found.append(bar(series, opening, last, price, chance.uniform(0.1, 5)))
        opening = frame.close_time(opening)
    return found


def bar(series: Series, opening: int, first: float, last: float, volume: float) -> Candle:
    o, h, low, c, v = (Decimal(f"{x:.2f}") for x in (first, max(first, last) + 1, min(first, last) - 1, last, volume))
    return Candle(series, Bar(opening, o, h, low, c, v, Decimal(1), 3), True, CandleSource.EXCHANGE)


def forming_minute(opening: int, price: float) -> Candle:
    return replace(bar(BTC, opening, 1000, price, 1), closed=False)


def with_other_close(candle: Candle) -> Candle:
    """Return a correction of the candle."""
    other = replace(candle.bar, close=candle.bar.close + Decimal("0.5"))
    return replace(candle, bar=other, revision=candle.revision + 1)


async def test_rows_of_stored_and_of_new_candles_are_saved_and_published(ports: AnalystPorts) -> None:
    minutes, hours = random_walk(BTC, 440), random_walk(HOURS, 150)
    await ports.save(*minutes[:400], *hours, publish=False)
    async with run_analyst(ports.deps()) as values:
        await eventually(lambda: ports.rows_match(BTC, HOURS))
        values.clear()
        for candle in minutes[400:]:
            await ports.save(candle)
        await eventually(lambda: ports.rows_match(BTC))

        async def closed_published() -> bool:
            newest = [
                each
                for each in values
                if isinstance(each, IndicatorValue) and each.open_time == FORMING_OPEN_TIME - MINUTE_MS
            ]
            return {each.indicator for each in newest if each.closed} == set(map(str, STANDARD))

        await eventually(closed_published)
    rows = await ports.rows.indicator_values(BTC, 0, FAR_FUTURE)
    assert {row.open_time for row in rows} >= {candle.bar.open_time for candle in minutes[300:]}


async def test_correction_leaves_no_wrong_row(ports: AnalystPorts) -> None:
    candles = random_walk(BTC, 340)
    await ports.save(*candles[:300], publish=False)
    async with run_analyst(ports.deps()):
        await eventually(lambda: ports.rows_match(BTC))
        for candle in candles[300:]:
            await ports.save(candle)
        await eventually(lambda: ports.rows_match(BTC))
        old = candles[-120].bar.open_time
        assert len(await ports.rows.analyses(BTC, old, FAR_FUTURE)) == 120
        await ports.save(with_other_close(candles[-5]))
        await eventually(lambda: ports.rows_match(BTC))
        await ports.save(with_other_close(candles[-120]))
        await eventually(lambda: ports.rows_match(BTC))
        rows = await ports.rows.analyses(BTC, old, FAR_FUTURE)
        assert len(rows) == VERIFIED_CANDLES, "rows that a correction made wrong are still stored"
        assert await ports.rows.analyses(BTC, 0, old - 1)


async def test_candles_that_were_not_published_are_found_in_the_store(ports: AnalystPorts) -> None:
    candles = random_walk(BTC, 400)
    await ports.save(*candles[:300], publish=False)
    async with run_analyst(ports.deps()):
        await eventually(lambda: ports.rows_match(BTC))
        await ports.save(*candles[300:350], publish=False)
        await ports.save(with_other_close(candles[299]), publish=False)
        await eventually(lambda: ports.rows_match(BTC))
        await ports.save(*candles[350:398], publish=False)  # then a candle that does not follow the last published one
        await ports.save(candles[398])
        await eventually(lambda: ports.rows_match(BTC))
        await ports.save(with_other_close(candles[150]), publish=False)
        ports.clock.time += FULL_RELOAD_MS
        await eventually(lambda: ports.rows_match(BTC))


async def test_price_levels_of_weeks_follow_the_days_of_their_year(ports: AnalystPorts) -> None:
    """The days arrive after the weeks."""
    weeks, days = BTC._replace(timeframe="1w"), random_walk(BTC._replace(timeframe="1d"), 800)
    await ports.save(*random_walk(weeks, 150), publish=False)

    async def pivot() -> float | None:
        rows = await ports.rows.indicator_values(weeks, 0, FAR_FUTURE)
        newest = max((row.open_time for row in rows), default=None)
        return next((row.values.get("p") for row in rows if (row.open_time, row.indicator) == (newest, "pivots")), None)

    async with run_analyst(ports.deps()):
        await eventually(lambda: ports.rows_match(weeks))
        assert await pivot() is None
        await ports.save(*days)
        await eventually(lambda: ports.rows_match(weeks, days=days))
        point, index = await pivot(), next(i for i, day in enumerate(days) if day.bar.open_time >= YEAR_START_MS)
        days[index] = replace(days[index], bar=replace(days[index].bar, high=Decimal(9000)), revision=1)
        await ports.save(days[index])
        await eventually(lambda: ports.rows_match(weeks, days=days))
        assert point is not None
        assert await pivot() != point
    (found,) = (await ports.rows.analyses(weeks, 0, FAR_FUTURE))[-1:]
    assert len(found.pivot_levels) == 7
    assert not [note for note in found.notes if "pivot" in note]


async def test_failing_store_is_retried(ports: AnalystPorts, caplog: pytest.LogCaptureFixture) -> None:
    candles = random_walk(BTC, 320)
    await ports.save(*candles[:300], publish=False)
    ports.rows.failures = 5
    async with run_analyst(ports.deps()):
        await eventually(lambda: ports.rows_match(BTC))
        for candle in candles[300:]:
            ports.rows.failures = 3
            await ports.save(candle)
        await eventually(lambda: ports.rows_match(BTC))
    assert "rows not saved" in caplog.text


async def test_analyst_after_killed_ones_has_the_same_rows(ports: AnalystPorts) -> None:
    chance, candles = random.Random(7), random_walk(BTC, 400)
    await ports.save(*candles[:300], publish=False)
    for index in range(300, 400, 20):
        async with run_analyst(ports.deps()):
            for candle in candles[index : index + 20]:
                await ports.save(candle, publish=chance.random() < 0.9)
            await asyncio.sleep(chance.uniform(0, 0.3))
    async with run_analyst(ports.deps()), run_analyst(ports.deps()):  # also with two at once
        await eventually(lambda: ports.rows_match(BTC))


async def test_arriving_history_is_loaded_at_intervals_not_per_candle(ports: AnalystPorts) -> None:
    candles = random_walk(BTC, 2000)
    await ports.save(*candles[-50:], publish=False)
    async with run_analyst(ports.deps()):
        await eventually(lambda: ports.rows_match(BTC))
        before = ports.store.calls["candles"]
        for start in range(0, 1950, 10):
            await ports.save(*candles[start : start + 10])
            ports.clock.time += RELOAD_QUIET_MS // 20
        await eventually(lambda: ports.rows_match(BTC))
        assert ports.store.calls["candles"] - before <= 2 + 195 * (RELOAD_QUIET_MS // 20) / RELOAD_MAX_DELAY_MS


def loading_status(missing: int) -> ExchangeStatus:
    """Binance's status while minutes and hours are missing."""
    left = [SeriesProgress(BTC.instrument, name, 0, 1000, missing) for name in ("1m", "1h") if missing]
    progress = BackfillProgress(1000, missing, tuple(left))
    return ExchangeStatus(
        "binance",
        FORMING_OPEN_TIME,
        True,
        "socket",
        "",
        "",
        FORMING_OPEN_TIME,
        FORMING_OPEN_TIME,
        0,
        simulated=False,
        backfill=progress,
    )


async def test_rows_wait_for_the_end_of_a_backfill_unless_the_series_is_watched(
    ports: AnalystPorts,
) -> None:
    async with run_analyst(ports.deps()):
        for page in range(20, 0, -1):
            await ports.bus.publish(loading_status(page * 10))
            await ports.save(*random_walk(BTC, 300), *random_walk(HOURS, 300))
            if page == 10:
                await ports.bus.publish(IndicatorRequest(HOURS, "sma:20", FAR_FUTURE))
            ports.clock.time += RELOAD_QUIET_MS
            await asyncio.sleep(0.05)
        await eventually(lambda: ports.rows_match(HOURS))
        assert not await ports.rows.analyses(BTC, 0, FAR_FUTURE), "rows are computed before the backfill has ended"
        await ports.bus.publish(loading_status(0))
        await eventually(lambda: ports.rows_match(BTC))


async def test_rows_do_not_wait_for_a_stalled_backfill(ports: AnalystPorts) -> None:
    await ports.save(*random_walk(BTC, 300), publish=False)
    async with run_analyst(ports.deps()):
        for _ in range(40):
            await ports.bus.publish(loading_status(70))
            ports.clock.time += COLLECTOR_SILENT_MS // 2
            await asyncio.sleep(0.01)
        await eventually(lambda: ports.rows_match(BTC))


async def publish_forming(ports: AnalystPorts, values: Sequence[Message], price: float) -> dict[str, IndicatorValue]:
    """Return the values published for the forming minute at a price."""
    await ports.bus.publish(forming_minute(FORMING_OPEN_TIME, price))

    async def is_published() -> bool:
        return any(isinstance(each, IndicatorValue) and not each.closed for each in values)

    await eventually(is_published)
    return {each.indicator: each for each in values if isinstance(each, IndicatorValue) and not each.closed}


async def test_only_changed_values_of_the_forming_candle_are_published(ports: AnalystPorts) -> None:
    candles = random_walk(BTC, 400)
    await ports.save(*candles, publish=False)
    async with run_analyst(ports.deps()) as values:
        await eventually(lambda: ports.rows_match(BTC))
        values.clear()
        found = await publish_forming(ports, values, 1010)
        assert {(each.open_time, each.closed) for each in found.values()} == {(FORMING_OPEN_TIME, False)}
        columns = to_columns([*candles, forming_minute(FORMING_OPEN_TIME, 1010)])
        for name in ("sma:20", "bbands:20:2", "rsi:14"):
            (spec,) = parse_specs(name)
            expected = compute(spec, columns, TIMEFRAMES["1m"])
            assert found[name].values == pytest.approx({output: column[-1] for output, column in expected.items()})
        count = len(values)
        await ports.bus.publish(forming_minute(FORMING_OPEN_TIME, 1010))
        await asyncio.sleep(0.1)
        assert len(values) == count, "an unchanged value is published again"
        values.clear()
        again = await publish_forming(ports, values, 1020)
        assert again["sma:20"].values != found["sma:20"].values
        assert "volume:20" not in again, "an unchanged value is published again"
        values.clear()
        await ports.bus.publish(forming_minute(FORMING_OPEN_TIME + MINUTE_MS, 1010))
        await asyncio.sleep(0.1)
        assert not values, "a candle is missing in between"
    assert not await ports.rows.indicator_values(BTC, FORMING_OPEN_TIME, FAR_FUTURE)


async def test_old_rows_are_deleted_also_of_symbols_that_are_no_longer_configured(ports: AnalystPorts) -> None:
    unknown = Series("binance", Instrument("SOL", "EUR"), "1m")
    await ports.save(*random_walk(BTC, 200), *random_walk(unknown, 200), publish=False)
    async with run_analyst(ports.deps(analysis_bars=0)):
        await eventually(lambda: ports.rows_match(BTC))
    more_than_a_calendar_has = ports.deps(analysis_bars=100_000_000)
    deleting = asyncio.create_task(delete_old_rows(more_than_a_calendar_has))
    assert not (await asyncio.wait([deleting], timeout=1))[0]
    deleting.cancel()
    assert await ports.rows.analyses(BTC, 0, FORMING_OPEN_TIME - 31 * MINUTE_MS)
    async with run_analyst(ports.deps(analysis_bars=30), *JOBS):

        async def dropped() -> bool:
            return len(await ports.rows.analyses(BTC, 0, FORMING_OPEN_TIME - 31 * MINUTE_MS)) == 0

        await eventually(dropped)
    assert not await ports.rows.analyses(unknown, 0, FAR_FUTURE)


async def test_without_stored_indicators_analyses_are_saved_and_values_published(ports: AnalystPorts) -> None:
    candles = random_walk(BTC, 301)
    await ports.save(*candles[:300], publish=False)
    async with run_analyst(ports.deps()):
        await eventually(lambda: ports.rows_match(BTC))
    newest = candles[300].bar.open_time
    async with run_analyst(ports.deps(store_indicators=False), *JOBS) as values:

        async def analysed() -> bool:
            ports.clock.time += RELOAD_QUIET_MS
            rows = await ports.rows.indicator_values(BTC, 0, FAR_FUTURE)
            return not rows and bool(await ports.rows.analyses(BTC, candles[299].bar.open_time, FAR_FUTURE))

        await eventually(analysed)
        await ports.save(candles[300])
        expected = {
            row.indicator: row.values
            for row in expected_rows(BTC, candles)
            if isinstance(row, IndicatorValue) and row.open_time == newest
        }

        async def published() -> bool:
            ports.clock.time += RELOAD_QUIET_MS
            found = [each for each in values if isinstance(each, IndicatorValue) and each.open_time == newest]
            return {each.indicator: each.values for each in found if each.closed} == expected

        await eventually(published)
        assert await ports.rows.analyses(BTC, newest, newest)
        assert not await ports.rows.indicator_values(BTC, 0, FAR_FUTURE)
