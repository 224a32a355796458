"""History: what is configured is loaded, what is lost is found and repaired, what nobody has is not asked for again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from services.adapters import sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache
from services.collector import JOBS as COLLECTOR
from services.core.exchange import Event, Exchange, InstrumentStatus, RestCall
from services.core.model import (
    Candle,
    CandleGapState,
    CandleSource,
    ExchangeStatus,
    HistoryRequest,
    Instrument,
    Kline,
    Series,
)
from services.core.timeframes import DAY_MS, MINUTE_MS, TIMEFRAMES
from services.ports import Store
from services.settings import Settings
from services.writer import JOBS as WRITER
from tests.deps import make_deps
from tests.jobs import recorded_messages, running_jobs
from tests.simulator import SimulatorServer, run_simulator
from tests.waiting import eventually

BARS = 20
TIMEFRAME_NAMES = ("30m", "4h")  # that CoinGecko has
ETH = Instrument("ETH", "USDT")
PAIR, PERPETUAL = Instrument("BTC", "USDT"), Instrument("BTC", "USD", "PERPETUAL")


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_simulator() as market:
        yield market


@pytest.fixture(autouse=True)
def a_young_market(monkeypatch: pytest.MonkeyPatch) -> None:
    """Years of days take the simulator long."""
    monkeypatch.setattr("services.core.history_depth.EARLIEST_CANDLE_MS", SystemClock().now() - 70 * DAY_MS)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    await sql.migrate(url)
    store = await sql.connect(url)
    yield store
    await store.close()


@asynccontextmanager
async def run_kurs(
    store: Store,
    *exchanges: Exchange,
    symbols: tuple[Instrument, ...] = (PAIR,),
    directions: tuple[Instrument, ...] = (PAIR,),
) -> AsyncIterator[MemoryBus]:
    """Collector and writer at work."""
    settings = Settings(_env_file=None, directions=directions, symbols=symbols, history_bars=BARS)
    bus = MemoryBus()
    deps = make_deps(settings, bus=bus, store=store, exchanges=exchanges)
    async with running_jobs(*(job(deps) for job in (*COLLECTOR, *WRITER))):
        yield bus


async def is_complete(store: Store, series: Series) -> bool:
    """Whether the newest closed candles are all there."""
    now, timeframe = SystemClock().now(), TIMEFRAMES[series.timeframe]
    last = timeframe.step_back(timeframe.open_time(now - 15_000), 1)
    first = max(timeframe.step_back(last, BARS - 1), now - 68 * DAY_MS)
    return not await store.missing_ranges(series, first, last)


async def wait_for_complete(store: Store, *names: tuple[str, Instrument]) -> None:
    wanted = [Series(exchange, instrument, name) for exchange, instrument in names for name in TIMEFRAMES]
    left = wanted
    deadline = SystemClock().now() + 90_000
    while left := [series for series in left if not await is_complete(store, series)]:
        assert SystemClock().now() < deadline, f"not complete: {left}"
        await asyncio.sleep(0.2)


async def exchange_klines(
    market: SimulatorServer, exchange: Exchange, series: Series, rows: list[Candle]
) -> list[Kline]:
    """What the exchange says of these candles."""
    assert exchange.klines
    ask = exchange.klines(series.instrument, series.timeframe, rows[0].bar.open_time, rows[-1].bar.open_time)
    assert ask
    answer = await market.client.get(exchange.rest_urls[0] + ask.path)
    events = ask.parse(answer.content, SystemClock().now())
    since, until = rows[0].bar.open_time, rows[-1].bar.open_time  # some exchanges answer with one more at an end
    return [e for e in events if isinstance(e, Kline) and since <= e.bar.open_time <= until]


async def test_all_timeframes_are_loaded_as_the_exchanges_have_them(market: SimulatorServer, store: Store) -> None:
    exchanges = [market.exchange("binance"), market.exchange("deribit")]
    async with run_kurs(store, *exchanges):
        await wait_for_complete(store, ("binance", PAIR), ("deribit", PERPETUAL))
    for exchange, instrument in zip(exchanges, (PAIR, PERPETUAL), strict=True):
        for name in ("1m", "1h", "1d"):
            series = Series(exchange.name, instrument, name)
            rows = [row for row in await store.candles(series, 0, SystemClock().now()) if row.closed]
            assert [row.bar for row in rows] == [k.bar for k in await exchange_klines(market, exchange, series, rows)]
            assert {row.source for row in rows} <= {CandleSource.EXCHANGE, CandleSource.ROLLUP}
    weeks = Series("deribit", PERPETUAL, "1w")  # which Deribit does not have
    assert {row.source for row in await store.candles(weeks, 0, SystemClock().now())} == {CandleSource.ROLLUP}


async def test_candles_missed_while_stopped_are_a_gap_that_is_repaired(market: SimulatorServer, store: Store) -> None:
    exchange, series = market.exchange("binance"), Series("binance", PAIR, "1m")
    now = SystemClock().now() // MINUTE_MS * MINUTE_MS
    assert exchange.klines
    ask = exchange.klines(PAIR, "1m", now - 60 * MINUTE_MS, now - 30 * MINUTE_MS)
    assert ask
    answer = await market.client.get(exchange.rest_urls[0] + ask.path)
    old = [event for event in ask.parse(answer.content, now) if isinstance(event, Kline)]
    await store.save(*(Candle(series, kline.bar, True, CandleSource.EXCHANGE) for kline in old))
    async with run_kurs(store, exchange):
        async with asyncio.timeout(60):
            while not (holes := await store.candle_gaps(CandleGapState.REPAIRED)):
                await asyncio.sleep(0.2)
    (hole,) = [hole for hole in holes if hole.series == series]
    assert hole.since == old[-1].bar.open_time + MINUTE_MS
    assert hole.until >= now - 2 * MINUTE_MS
    assert (hole.state, hole.repaired_from) == (CandleGapState.REPAIRED, CandleSource.EXCHANGE)
    assert not await store.missing_ranges(series, old[0].bar.open_time, now - 2 * MINUTE_MS)


async def test_candles_that_the_exchange_lacks_are_absent_and_not_fetched_forever(
    market: SimulatorServer, store: Store
) -> None:
    exchange, asked = market.exchange("binance"), Counter[str]()
    lost = TIMEFRAMES["15m"].open_time(SystemClock().now() - 2 * 60 * MINUTE_MS)

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        if timeframe != "15m" or not ask:
            return None
        asked[timeframe] += since > 0

        def read(body: bytes, now: int) -> list[Event]:
            return [e for e in ask.parse(body, now) if not (isinstance(e, Kline) and e.bar.open_time == lost)]

        return RestCall(ask.path, read)

    series = Series("binance", PAIR, "15m")
    async with run_kurs(store, exchange._replace(klines=history)):
        async with asyncio.timeout(60):
            while not await store.candle_gaps(CandleGapState.ABSENT):
                await asyncio.sleep(0.2)
        await asyncio.sleep(0)
    (hole,) = await store.candle_gaps(CandleGapState.ABSENT)
    assert (hole.series, hole.since, hole.until) == (series, lost, lost)
    before = asked["15m"]
    async with run_kurs(store, exchange._replace(klines=history)):
        await eventually(lambda: asked["15m"] > before, 30)


async def test_error_of_one_symbol_stops_only_its_backfill_with_the_reason(
    market: SimulatorServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """One answers 400 to each question, and one timeframe of another what is no candle."""
    exchange, asked = market.exchange("binance"), Counter[str]()

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        assert ask
        if instrument == ETH:
            asked[timeframe] += since > 0
            return ask._replace(path=ask.path.replace("ETHUSDT", "NOSUCH"))
        return ask._replace(parse=lambda body, now: 1 / 0) if timeframe == "2h" else ask  # type: ignore[arg-type,return-value]

    async with (
        run_kurs(store, exchange._replace(klines=history), symbols=(PAIR, ETH)) as bus,
        recorded_messages(bus, ExchangeStatus) as states,
    ):
        wanted = [Series("binance", PAIR, name) for name in TIMEFRAMES if name != "2h"]
        async with asyncio.timeout(60):
            while not all([await is_complete(store, series) for series in wanted]):
                await asyncio.sleep(0.2)
            while not waiting_reasons(states).keys() >= {(ETH, "1h"), (PAIR, "2h")}:
                await asyncio.sleep(0.2)
    assert "responded 400" in waiting_reasons(states)[ETH, "1h"]
    assert "cannot be parsed" in waiting_reasons(states)[PAIR, "2h"]
    assert max(asked.values()) <= 3, "it is asked for again and again"
    assert "no candles of ETH-USDT" in caplog.text


async def test_unknown_coin_is_not_fetched_again_at_once_from_a_rationed_exchange(
    market: SimulatorServer, store: Store
) -> None:
    """CoinGecko answers null for one coin, 404 for another, and the candles of the third come."""
    exchange, asked = market.exchange("coingecko"), Counter[tuple[str, str]]()
    coins = {base: Instrument(base, "USD") for base in ("BTC", "SOL", "ETH")}
    paths = {"BTC": "/api/v3/ping", "SOL": "/api/v3/coins/no-such-coin/ohlc?vs_currency=usd&days=1"}

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        if ask and since:
            asked[instrument.base, timeframe] += 1
        if ask and instrument.base == "BTC":
            return ask._replace(parse=lambda body, now: ask.parse(b"null", now))
        return ask and ask._replace(path=paths.get(instrument.base, ask.path))

    there = exchange._replace(klines=history, kline_budget=60)
    async with (
        run_kurs(store, there, directions=tuple(coins.values())) as bus,
        recorded_messages(bus, ExchangeStatus) as states,
    ):
        async with asyncio.timeout(60):
            while not waiting_reasons(states).keys() >= {
                (coins[base], name) for base in ("BTC", "SOL") for name in TIMEFRAME_NAMES
            }:
                await asyncio.sleep(0.2)
            for name in TIMEFRAME_NAMES:
                while not await store.candles(Series("coingecko", coins["ETH"], name), 0, SystemClock().now()):
                    await asyncio.sleep(0.2)
    assert max(asked.values()) == 1
    assert "responded 404" in waiting_reasons(states)[coins["SOL"], "4h"]
    assert "cannot be parsed" in waiting_reasons(states)[coins["BTC"], "30m"]


async def test_a_symbol_that_ended_gets_its_history_and_holds_nobody_up(market: SimulatorServer, store: Store) -> None:
    """The exchange lists ETH still, and has candles of it up to a day; a third symbol it does not list at all."""
    exchange, asked, gone = market.exchange("binance"), Counter[tuple[Instrument, str]](), Instrument("GONE", "USDT")
    end = TIMEFRAMES["1d"].open_time(SystemClock().now()) - 10 * DAY_MS
    assert exchange.instrument_status

    def listing(instrument: Instrument) -> RestCall:
        ask = exchange.instrument_status and exchange.instrument_status(instrument)
        assert ask
        ended = [InstrumentStatus(instrument, False, "BREAK")]
        return ask._replace(parse=lambda body, now: ended) if instrument == ETH else ask

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        assert ask
        asked[instrument, timeframe] += since > 0
        if instrument != ETH:
            return ask

        def read(body: bytes, now: int) -> list[Event]:
            return [e for e in ask.parse(body, now) if not (isinstance(e, Kline) and e.bar.open_time >= end)]

        return ask._replace(parse=read)

    days, weeks = (Series("binance", ETH, name) for name in ("1d", "1w"))
    async with run_kurs(store, exchange._replace(klines=history, instrument_status=listing), symbols=(PAIR, ETH, gone)):
        await wait_for_complete(store, ("binance", PAIR))
        async with asyncio.timeout(60):
            while not [hole for hole in await store.candle_gaps(CandleGapState.ABSENT) if hole.series == days]:
                await asyncio.sleep(0.2)
    rows = await store.candles(days, 0, SystemClock().now())
    assert rows[-1].bar.open_time == end - DAY_MS
    assert len(rows) >= 50
    assert await store.candles(weeks, 0, SystemClock().now())
    assert max(count for (instrument, _), count in asked.items() if instrument == ETH) <= 2
    assert not any(instrument == gone and count for (instrument, _), count in asked.items())


async def test_requested_history_is_fetched_first(market: SimulatorServer, store: Store) -> None:
    exchange, asked = market.exchange("binance"), list[tuple[Instrument, str]]()
    allowed = asyncio.Event()

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        if since:
            asked.append((instrument, timeframe))
        return exchange.klines and exchange.klines(instrument, timeframe, since, until)

    class Slow(MemoryCache):
        """Nothing may be asked for before the request is heard."""

        async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
            if window.startswith("history:"):
                await allowed.wait()
            return await super().increment(window, ttl_seconds, counts)

    settings = Settings(_env_file=None, directions=(PAIR,), symbols=(PAIR, ETH), history_bars=BARS)
    bus, exchanges = MemoryBus(), (exchange._replace(klines=history),)
    deps = make_deps(settings, bus=bus, cache=Slow(), store=store, exchanges=exchanges)
    series, now = Series("binance", ETH, "1h"), SystemClock().now()
    async with (
        recorded_messages(bus, ExchangeStatus) as statuses,
        running_jobs(*(job(deps) for job in (*COLLECTOR, *WRITER))),
    ):
        await eventually(lambda: statuses and statuses[-1].backfill and statuses[-1].backfill.expected, 30)
        await bus.publish(HistoryRequest(series, now - 20 * 3_600_000, now, 60))
        await asyncio.sleep(0)
        allowed.set()
        await eventually(lambda: (ETH, "1h") in asked, 30)
    # the hours themselves, and before them what the forming one is made of: the more, the later in the hour
    first = asked[: asked.index((ETH, "1h")) + 1]
    assert set(first) <= {(ETH, name) for name in ("1h", "30m", "15m", "5m", "1m")}, asked


def waiting_reasons(states: list[ExchangeStatus]) -> dict[tuple[Instrument, str], str]:
    """Why series wait, as the collector last said it."""
    progress = states[-1].backfill if states else None
    return {
        (each.instrument, each.timeframe): each.reason
        for each in (progress.incomplete if progress else ())
        if each.reason
    }
