"""Collector and writer on history: they load it, repair candle gaps, and do not fetch absent candles for good."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
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
    CandleGap,
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
def short_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin history 70 days ago, because years of days take the simulator long."""
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
    """Run collector and writer until the block ends, and yield their bus."""
    settings = Settings(_env_file=None, directions=directions, symbols=symbols, history_bars=BARS)
    bus = MemoryBus()
    deps = make_deps(settings, bus=bus, store=store, exchanges=exchanges)
    async with running_jobs(*(job(deps) for job in (*COLLECTOR, *WRITER))):
        yield bus


async def is_complete(store: Store, series: Series) -> bool:
    """Return whether the newest closed candles of a series are all stored."""
    now, timeframe = SystemClock().now(), TIMEFRAMES[series.timeframe]
    last = timeframe.step_back(timeframe.open_time(now - 15_000), 1)
    first = max(timeframe.step_back(last, BARS - 1), now - 68 * DAY_MS)
    return not await store.missing_ranges(series, first, last)


async def wait_for_complete(store: Store, *names: tuple[str, Instrument]) -> None:
    left = [Series(exchange, instrument, name) for exchange, instrument in names for name in TIMEFRAMES]

    async def all_complete() -> bool:
        left[:] = [series for series in left if not await is_complete(store, series)]
        return not left

    await eventually(all_complete, 120)


async def wait_for_gaps(store: Store, state: CandleGapState, series: Series) -> list[CandleGap]:
    """Wait until a series has candle gaps in that state, and return them."""
    found = list[CandleGap]()

    async def has_gaps() -> bool:
        found[:] = await store.candle_gaps(state, series)
        return bool(found)

    await eventually(has_gaps)
    return found


async def exchange_klines(
    market: SimulatorServer, exchange: Exchange, series: Series, rows: list[Candle]
) -> list[Kline]:
    """Return the exchange's klines of these candles."""
    assert exchange.klines
    ask = exchange.klines(series.instrument, series.timeframe, rows[0].bar.open_time, rows[-1].bar.open_time)
    assert ask
    answer = await market.client.get(exchange.rest_urls[0] + ask.path)
    events = ask.parse(answer.content, SystemClock().now())
    since, until = rows[0].bar.open_time, rows[-1].bar.open_time  # some exchanges respond with one more at an end
    return [e for e in events if isinstance(e, Kline) and since <= e.bar.open_time <= until]


async def test_candles_of_all_timeframes_equal_the_exchanges_klines(market: SimulatorServer, store: Store) -> None:
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


async def test_candles_missed_while_stopped_are_a_candle_gap_that_is_repaired(
    market: SimulatorServer, store: Store
) -> None:
    exchange, series = market.exchange("binance"), Series("binance", PAIR, "1m")
    now = SystemClock().now() // MINUTE_MS * MINUTE_MS
    assert exchange.klines
    ask = exchange.klines(PAIR, "1m", now - 60 * MINUTE_MS, now - 30 * MINUTE_MS)
    assert ask
    answer = await market.client.get(exchange.rest_urls[0] + ask.path)
    old = [event for event in ask.parse(answer.content, now) if isinstance(event, Kline)]
    await store.save(*(Candle(series, kline.bar, True, CandleSource.EXCHANGE) for kline in old))
    async with run_kurs(store, exchange):
        (gap,) = await wait_for_gaps(store, CandleGapState.REPAIRED, series)
    assert gap.since == old[-1].bar.open_time + MINUTE_MS
    assert gap.until >= now - 2 * MINUTE_MS
    assert gap.repaired_from == CandleSource.EXCHANGE
    assert not await store.missing_ranges(series, old[0].bar.open_time, now - 2 * MINUTE_MS)


async def test_candle_that_the_exchange_lacks_is_absent_and_fetched_once_more_after_a_restart(
    market: SimulatorServer, store: Store
) -> None:
    exchange, requests = market.exchange("binance"), Counter[str]()
    lost = TIMEFRAMES["15m"].open_time(SystemClock().now() - 2 * 60 * MINUTE_MS)

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        if timeframe != "15m" or not ask:
            return None
        requests[timeframe] += since > 0

        def read(body: bytes, now: int) -> list[Event]:
            return [e for e in ask.parse(body, now) if not (isinstance(e, Kline) and e.bar.open_time == lost)]

        return RestCall(ask.path, read)

    series = Series("binance", PAIR, "15m")
    async with run_kurs(store, exchange._replace(klines=history)):
        await wait_for_gaps(store, CandleGapState.ABSENT, series)
    (gap,) = await store.candle_gaps(CandleGapState.ABSENT)
    assert (gap.series, gap.since, gap.until) == (series, lost, lost)
    before = requests["15m"]
    async with run_kurs(store, exchange._replace(klines=history)):
        await eventually(lambda: requests["15m"] > before)


async def test_error_of_one_symbol_stops_only_its_backfill_with_the_reason(
    market: SimulatorServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """One symbol gets 400 for each request, and one timeframe of another symbol has malformed klines."""
    exchange, requests = market.exchange("binance"), Counter[str]()

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        assert ask
        if instrument == ETH:
            requests[timeframe] += since > 0
            return ask._replace(path=ask.path.replace("ETHUSDT", "NOSUCH"))
        return ask._replace(parse=lambda body, now: 1 / 0) if timeframe == "2h" else ask  # type: ignore[arg-type,return-value]

    async with (
        run_kurs(store, exchange._replace(klines=history), symbols=(PAIR, ETH)) as bus,
        recorded_messages(bus, ExchangeStatus) as states,
    ):
        wanted = [Series("binance", PAIR, name) for name in TIMEFRAMES if name != "2h"]

        async def others_complete() -> bool:
            return all([await is_complete(store, series) for series in wanted])

        await eventually(others_complete)
        await eventually(lambda: waiting_reasons(states).keys() >= {(ETH, "1h"), (PAIR, "2h")})
    assert "responded 400" in waiting_reasons(states)[ETH, "1h"]
    assert "cannot be parsed" in waiting_reasons(states)[PAIR, "2h"]
    assert max(requests.values()) <= 3, "it is requested again and again"
    assert "no candles of ETH-USDT" in caplog.text


async def test_unknown_coin_is_requested_once_where_requests_are_rationed(
    market: SimulatorServer, store: Store
) -> None:
    """CoinGecko responds with null for one coin, with 404 for another, and with candles for the third."""
    exchange, requests = market.exchange("coingecko"), Counter[tuple[str, str]]()
    coins = {base: Instrument(base, "USD") for base in ("BTC", "SOL", "ETH")}
    paths = {"BTC": "/api/v3/ping", "SOL": "/api/v3/coins/no-such-coin/ohlc?vs_currency=usd&days=1"}

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        if ask and since:
            requests[instrument.base, timeframe] += 1
        if ask and instrument.base == "BTC":
            return ask._replace(parse=lambda body, now: ask.parse(b"null", now))
        return ask and ask._replace(path=paths.get(instrument.base, ask.path))

    rationed = exchange._replace(klines=history, kline_budget=60)
    async with (
        run_kurs(store, rationed, directions=tuple(coins.values())) as bus,
        recorded_messages(bus, ExchangeStatus) as states,
    ):
        waiting = {(coins[base], name) for base in ("BTC", "SOL") for name in TIMEFRAME_NAMES}
        await eventually(lambda: waiting_reasons(states).keys() >= waiting)
        for name in TIMEFRAME_NAMES:
            stored = partial(store.candles, Series("coingecko", coins["ETH"], name), 0, SystemClock().now())
            await eventually(stored)
    assert max(requests.values()) == 1
    assert "responded 404" in waiting_reasons(states)[coins["SOL"], "4h"]
    assert "cannot be parsed" in waiting_reasons(states)[coins["BTC"], "30m"]


async def test_ended_symbol_gets_its_history_and_an_unknown_one_delays_no_other(
    market: SimulatorServer, store: Store
) -> None:
    """ETH is still listed, and has candles up to a day. A third symbol is not listed at all."""
    exchange, requests, unlisted = (
        market.exchange("binance"),
        Counter[tuple[Instrument, str]](),
        Instrument("GONE", "USDT"),
    )
    end = TIMEFRAMES["1d"].open_time(SystemClock().now()) - 10 * DAY_MS
    assert exchange.instrument_status

    def instrument_status(instrument: Instrument) -> RestCall:
        ask = exchange.instrument_status and exchange.instrument_status(instrument)
        assert ask
        ended = [InstrumentStatus(instrument, False, "BREAK")]
        return ask._replace(parse=lambda body, now: ended) if instrument == ETH else ask

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        ask = exchange.klines and exchange.klines(instrument, timeframe, since, until)
        assert ask
        requests[instrument, timeframe] += since > 0
        if instrument != ETH:
            return ask

        def read(body: bytes, now: int) -> list[Event]:
            return [e for e in ask.parse(body, now) if not (isinstance(e, Kline) and e.bar.open_time >= end)]

        return ask._replace(parse=read)

    days, weeks = (Series("binance", ETH, name) for name in ("1d", "1w"))
    async with run_kurs(
        store, exchange._replace(klines=history, instrument_status=instrument_status), symbols=(PAIR, ETH, unlisted)
    ):
        await wait_for_complete(store, ("binance", PAIR))
        await wait_for_gaps(store, CandleGapState.ABSENT, days)
    rows = await store.candles(days, 0, SystemClock().now())
    assert rows[-1].bar.open_time == end - DAY_MS
    assert len(rows) >= 50
    assert await store.candles(weeks, 0, SystemClock().now())
    assert max(count for (instrument, _), count in requests.items() if instrument == ETH) <= 2
    assert not any(instrument == unlisted and count for (instrument, _), count in requests.items())


async def test_requested_history_is_fetched_first(market: SimulatorServer, store: Store) -> None:
    exchange, requests = market.exchange("binance"), list[tuple[Instrument, str]]()
    allowed = asyncio.Event()

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
        if since:
            requests.append((instrument, timeframe))
        return exchange.klines and exchange.klines(instrument, timeframe, since, until)

    class GatedCache(MemoryCache):
        """A cache that lets no history be fetched before `allowed` is set."""

        async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
            if window.startswith("history:"):
                await allowed.wait()
            return await super().increment(window, ttl_seconds, counts)

    settings = Settings(_env_file=None, directions=(PAIR,), symbols=(PAIR, ETH), history_bars=BARS)
    bus, exchanges = MemoryBus(), (exchange._replace(klines=history),)
    deps = make_deps(settings, bus=bus, cache=GatedCache(), store=store, exchanges=exchanges)
    series, now = Series("binance", ETH, "1h"), SystemClock().now()
    async with (
        recorded_messages(bus, ExchangeStatus) as statuses,
        running_jobs(*(job(deps) for job in (*COLLECTOR, *WRITER))),
    ):
        await eventually(lambda: statuses and statuses[-1].backfill and statuses[-1].backfill.expected)
        await bus.publish(HistoryRequest(series, now - 20 * 3_600_000, now, 60))
        await asyncio.sleep(0)
        allowed.set()
        await eventually(lambda: (ETH, "1h") in requests)
    # before the hours come the candles that the forming hour consists of: the more, the later in the hour
    first = requests[: requests.index((ETH, "1h")) + 1]
    assert set(first) <= {(ETH, name) for name in ("1h", "30m", "15m", "5m", "1m")}, requests


def waiting_reasons(states: list[ExchangeStatus]) -> dict[tuple[Instrument, str], str]:
    """Return why series wait, as of the collector's last status."""
    progress = states[-1].backfill if states else None
    return {
        (each.instrument, each.timeframe): each.reason
        for each in (progress.incomplete if progress else ())
        if each.reason
    }
