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
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.collector import JOBS as COLLECTOR
from services.core.exchange import Ask, Event, Exchange, Presence
from services.core.model import Candle, HistoryRequest, HoleState, Instrument, Kline, Origin, Series, State
from services.core.timeframes import DAY, MINUTE, TIMEFRAMES
from services.hub import Hub
from services.ports import Deps, Store
from services.settings import Settings
from services.writer import JOBS as WRITER
from tests.simulator import Market, playing, until

BARS = 20
NAMES = ("30m", "4h")  # that CoinGecko has
ETH = Instrument("ETH", "USDT")
PAIR, PERPETUAL = Instrument("BTC", "USDT"), Instrument("BTC", "USD", "PERPETUAL")


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[Market]:
    async with playing() as market:
        yield market


@pytest.fixture(autouse=True)
def a_young_market(monkeypatch: pytest.MonkeyPatch) -> None:
    """Years of days take the simulator long."""
    monkeypatch.setattr("services.core.history_depth.BEGINNING", SystemClock().now() - 70 * DAY)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    await sql.migrate(url)
    store = await sql.connect(url)
    yield store
    await store.close()


@asynccontextmanager
async def kurs(
    store: Store,
    *exchanges: Exchange,
    symbols: tuple[Instrument, ...] = (PAIR,),
    directions: tuple[Instrument, ...] = (PAIR,),
) -> AsyncIterator[MemoryBus]:
    """Collector and writer at work."""
    settings = Settings(_env_file=None, directions=directions, symbols=symbols, history_bars=BARS)
    bus = MemoryBus()
    deps = Deps(settings, SystemClock(), bus, MemoryCache(), store, Hub(SystemClock()), exchanges, MemoryJournal())
    tasks = [asyncio.create_task(job(deps)) for job in (*COLLECTOR, *WRITER)]
    try:
        yield bus
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def complete(store: Store, series: Series) -> bool:
    """Whether the newest closed candles are all there."""
    now, timeframe = SystemClock().now(), TIMEFRAMES[series.timeframe]
    last = timeframe.back(timeframe.opening(now - 15_000), 1)
    first = max(timeframe.back(last, BARS - 1), now - 68 * DAY)
    return not await store.missing(series, first, last)


async def all_complete(store: Store, *names: tuple[str, Instrument]) -> None:
    wanted = [Series(exchange, instrument, name) for exchange, instrument in names for name in TIMEFRAMES]
    left = wanted
    deadline = SystemClock().now() + 90_000
    while left := [series for series in left if not await complete(store, series)]:
        assert SystemClock().now() < deadline, f"not complete: {left}"
        await asyncio.sleep(0.2)


async def own_words(market: Market, exchange: Exchange, series: Series, rows: list[Candle]) -> list[Kline]:
    """What the exchange says of these candles."""
    assert exchange.history
    ask = exchange.history(series.instrument, series.timeframe, rows[0].bar.timestamp, rows[-1].bar.timestamp)
    assert ask
    answer = await market.client.get(exchange.rests[0] + ask.path)
    events = ask.read(answer.content, SystemClock().now())
    since, until = rows[0].bar.timestamp, rows[-1].bar.timestamp  # some exchanges answer with one more at an end
    return [e for e in events if isinstance(e, Kline) and since <= e.bar.timestamp <= until]


async def test_all_timeframes_are_loaded_as_the_exchanges_have_them(market: Market, store: Store) -> None:
    exchanges = [market.exchange("binance"), market.exchange("deribit")]
    async with kurs(store, *exchanges):
        await all_complete(store, ("binance", PAIR), ("deribit", PERPETUAL))
    for exchange, instrument in zip(exchanges, (PAIR, PERPETUAL), strict=True):
        for name in ("1m", "1h", "1d"):
            series = Series(exchange.name, instrument, name)
            rows = [row for row in await store.candles(series, 0, SystemClock().now()) if row.closed]
            assert [row.bar for row in rows] == [k.bar for k in await own_words(market, exchange, series, rows)]
            assert {row.source for row in rows} <= {Origin.EXCHANGE, Origin.ROLLUP}
    weeks = Series("deribit", PERPETUAL, "1w")  # which Deribit does not have
    assert {row.source for row in await store.candles(weeks, 0, SystemClock().now())} == {Origin.ROLLUP}


async def test_what_was_missed_while_kurs_was_away_is_a_hole_that_is_repaired(market: Market, store: Store) -> None:
    exchange, series = market.exchange("binance"), Series("binance", PAIR, "1m")
    now = SystemClock().now() // MINUTE * MINUTE
    assert exchange.history
    ask = exchange.history(PAIR, "1m", now - 60 * MINUTE, now - 30 * MINUTE)
    assert ask
    answer = await market.client.get(exchange.rests[0] + ask.path)
    old = [event for event in ask.read(answer.content, now) if isinstance(event, Kline)]
    await store.save(*(Candle(series, kline.bar, True, Origin.EXCHANGE) for kline in old))
    async with kurs(store, exchange):
        async with asyncio.timeout(60):
            while not (holes := await store.holes(HoleState.REPAIRED)):
                await asyncio.sleep(0.2)
    (hole,) = [hole for hole in holes if hole.series == series]
    assert hole.since == old[-1].bar.timestamp + MINUTE
    assert hole.until >= now - 2 * MINUTE
    assert (hole.state, hole.origin) == (HoleState.REPAIRED, Origin.EXCHANGE)
    assert not await store.missing(series, old[0].bar.timestamp, now - 2 * MINUTE)


async def test_what_the_exchange_lacks_is_said_once_and_not_asked_for_for_ever(market: Market, store: Store) -> None:
    exchange, asked = market.exchange("binance"), Counter[str]()
    lost = TIMEFRAMES["15m"].opening(SystemClock().now() - 2 * 60 * MINUTE)

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
        ask = exchange.history and exchange.history(instrument, timeframe, since, until)
        if timeframe != "15m" or not ask:
            return None
        asked[timeframe] += since > 0

        def read(body: bytes, now: int) -> list[Event]:
            return [e for e in ask.read(body, now) if not (isinstance(e, Kline) and e.bar.timestamp == lost)]

        return Ask(ask.path, read)

    series = Series("binance", PAIR, "15m")
    async with kurs(store, exchange._replace(history=history)):
        async with asyncio.timeout(60):
            while not await store.holes(HoleState.ABSENT):
                await asyncio.sleep(0.2)
        await asyncio.sleep(0)
    (hole,) = await store.holes(HoleState.ABSENT)
    assert (hole.series, hole.since, hole.until) == (series, lost, lost)
    before = asked["15m"]
    async with kurs(store, exchange._replace(history=history)):
        await until(lambda: asked["15m"] > before, 30)


async def test_what_is_wrong_with_one_symbol_stops_that_one_alone_and_is_named(
    market: Market, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """One answers 400 to each question, and one timeframe of another what is no candle."""
    exchange, asked = market.exchange("binance"), Counter[str]()

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
        ask = exchange.history and exchange.history(instrument, timeframe, since, until)
        assert ask
        if instrument == ETH:
            asked[timeframe] += since > 0
            return ask._replace(path=ask.path.replace("ETHUSDT", "NOSUCH"))
        return ask._replace(read=lambda body, now: 1 / 0) if timeframe == "2h" else ask  # type: ignore[arg-type,return-value]

    states = list[State]()
    async with kurs(store, exchange._replace(history=history), symbols=(PAIR, ETH)) as bus:
        listening = asyncio.create_task(_listen(bus, states))
        wanted = [Series("binance", PAIR, name) for name in TIMEFRAMES if name != "2h"]
        async with asyncio.timeout(60):
            while not all([await complete(store, series) for series in wanted]):
                await asyncio.sleep(0.2)
            while not reasons(states).keys() >= {(ETH, "1h"), (PAIR, "2h")}:
                await asyncio.sleep(0.2)
        listening.cancel()
    assert "answers 400" in reasons(states)[ETH, "1h"]
    assert "cannot be understood" in reasons(states)[PAIR, "2h"]
    assert max(asked.values()) <= 3, "it is asked for again and again"
    assert "no candles of ETH-USDT" in caplog.text


async def test_a_dear_exchange_that_does_not_know_a_coin_is_not_asked_for_it_again_at_once(
    market: Market, store: Store
) -> None:
    """CoinGecko answers null for one coin, 404 for another, and the candles of the third come."""
    exchange, asked = market.exchange("coingecko"), Counter[tuple[str, str]]()
    coins = {base: Instrument(base, "USD") for base in ("BTC", "SOL", "ETH")}
    paths = {"BTC": "/api/v3/ping", "SOL": "/api/v3/coins/no-such-coin/ohlc?vs_currency=usd&days=1"}

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
        ask = exchange.history and exchange.history(instrument, timeframe, since, until)
        if ask and since:
            asked[instrument.base, timeframe] += 1
        if ask and instrument.base == "BTC":
            return ask._replace(read=lambda body, now: ask.read(b"null", now))
        return ask and ask._replace(path=paths.get(instrument.base, ask.path))

    states, there = list[State](), exchange._replace(history=history, history_budget=60)
    async with kurs(store, there, directions=tuple(coins.values())) as bus:
        listening = asyncio.create_task(_listen(bus, states))
        async with asyncio.timeout(60):
            while not reasons(states).keys() >= {(coins[base], name) for base in ("BTC", "SOL") for name in NAMES}:
                await asyncio.sleep(0.2)
            for name in NAMES:
                while not await store.candles(Series("coingecko", coins["ETH"], name), 0, SystemClock().now()):
                    await asyncio.sleep(0.2)
        listening.cancel()
    assert max(asked.values()) == 1
    assert "answers 404" in reasons(states)[coins["SOL"], "4h"]
    assert "cannot be understood" in reasons(states)[coins["BTC"], "30m"]


async def test_a_symbol_that_ended_gets_its_history_and_holds_nobody_up(market: Market, store: Store) -> None:
    """The exchange lists ETH still, and has candles of it up to a day; a third symbol it does not list at all."""
    exchange, asked, gone = market.exchange("binance"), Counter[tuple[Instrument, str]](), Instrument("GONE", "USDT")
    end = TIMEFRAMES["1d"].opening(SystemClock().now()) - 10 * DAY
    assert exchange.listing

    def listing(instrument: Instrument) -> Ask:
        ask = exchange.listing and exchange.listing(instrument)
        assert ask
        ended = [Presence(instrument, False, "BREAK")]
        return ask._replace(read=lambda body, now: ended) if instrument == ETH else ask

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
        ask = exchange.history and exchange.history(instrument, timeframe, since, until)
        assert ask
        asked[instrument, timeframe] += since > 0
        if instrument != ETH:
            return ask

        def read(body: bytes, now: int) -> list[Event]:
            return [e for e in ask.read(body, now) if not (isinstance(e, Kline) and e.bar.timestamp >= end)]

        return ask._replace(read=read)

    days, weeks = (Series("binance", ETH, name) for name in ("1d", "1w"))
    async with kurs(store, exchange._replace(history=history, listing=listing), symbols=(PAIR, ETH, gone)):
        await all_complete(store, ("binance", PAIR))
        async with asyncio.timeout(60):
            while not [hole for hole in await store.holes(HoleState.ABSENT) if hole.series == days]:
                await asyncio.sleep(0.2)
    rows = await store.candles(days, 0, SystemClock().now())
    assert rows[-1].bar.timestamp == end - DAY
    assert len(rows) >= 50
    assert await store.candles(weeks, 0, SystemClock().now())
    assert max(count for (instrument, _), count in asked.items() if instrument == ETH) <= 2
    assert not any(instrument == gone and count for (instrument, _), count in asked.items())


async def test_what_somebody_asks_for_goes_before_all_else(market: Market, store: Store) -> None:
    exchange, asked = market.exchange("binance"), list[tuple[Instrument, str]]()
    allowed = asyncio.Event()

    def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
        if since:
            asked.append((instrument, timeframe))
        return exchange.history and exchange.history(instrument, timeframe, since, until)

    class Slow(MemoryCache):
        """Nothing may be asked for before the request is heard."""

        async def count(self, window: str, seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
            if window.startswith("history:"):
                await allowed.wait()
            return await super().count(window, seconds, counts)

    settings = Settings(_env_file=None, directions=(PAIR,), symbols=(PAIR, ETH), history_bars=BARS)
    bus, exchanges = MemoryBus(), (exchange._replace(history=history),)
    deps = Deps(settings, SystemClock(), bus, Slow(), store, Hub(SystemClock()), exchanges, MemoryJournal())
    tasks = [asyncio.create_task(job(deps)) for job in (*COLLECTOR, *WRITER)]
    series, now = Series("binance", ETH, "1h"), SystemClock().now()
    states = list[State]()
    listening = asyncio.create_task(_listen(bus, states))
    await until(lambda: states and states[-1].history and states[-1].history.expected, 30)
    await bus.publish(HistoryRequest(series, now - 20 * 3_600_000, now, 60))
    await asyncio.sleep(0)
    allowed.set()
    await until(lambda: (ETH, "1h") in asked, 30)
    for task in (*tasks, listening):
        task.cancel()
    await asyncio.gather(*tasks, listening, return_exceptions=True)
    # the hours themselves, and before them what the forming one is made of: the more, the later in the hour
    first = asked[: asked.index((ETH, "1h")) + 1]
    assert set(first) <= {(ETH, name) for name in ("1h", "30m", "15m", "5m", "1m")}, asked


def reasons(states: list[State]) -> dict[tuple[Instrument, str], str]:
    """Why series wait, as the collector last said it."""
    progress = states[-1].history if states else None
    return {
        (each.instrument, each.timeframe): each.reason for each in (progress.loading if progress else ()) if each.reason
    }


async def _listen(bus: MemoryBus, states: list[State]) -> None:
    """The newest state."""
    async with bus.live(State) as messages:
        async for message in messages:
            if isinstance(message, State):
                states[:] = [message]
