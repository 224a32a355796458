"""Candles in any order of trades and klines, compared with bars computed from their definition."""

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.adapters.memory import MemoryStore
from services.core.candles import SUM_CONTEXT, empty_bar, from_kline, resolve
from services.core.minute_builder import MinuteBuilder
from services.core.model import (
    Bar,
    Candle,
    CandleGap,
    CandleGapState,
    CandleSource,
    ExchangeStatus,
    FeedStatus,
    Instrument,
    InstrumentFeed,
    Kline,
    Message,
    Series,
    Trade,
)
from services.core.timeframes import MINUTE_MS, TIMEFRAMES, Timeframe
from services.simulator.market.listings import BINANCE
from services.simulator.market.simulated_market import SimulatedMarket
from services.simulator.market.tape_candles import LENGTHS_MS, candles
from services.writer.batch_processor import BatchProcessor

PAIR = Instrument("BTC", "USDT")
MONDAY_THE_FIRST = 1_704_067_200_000  # 2024-01-01, where days, weeks and months begin
SERIES = {name: Series("x", PAIR, name) for name in TIMEFRAMES}
prices = st.integers(1, 9_999).map(lambda ticks: Decimal(ticks) / 100)
sizes = st.integers(1, 10**9).map(lambda lots: Decimal(lots) / 10**8)


@st.composite
def trade_histories(draw: st.DrawFn) -> list[Trade]:
    """Trades from the last minute of a month on, with long silences."""
    pauses = st.sampled_from([0, 1, 500, 9_000, 40_000, MINUTE_MS, 3 * MINUTE_MS])
    time, trades = MONDAY_THE_FIRST - 20_000, list[Trade]()
    for number, pause in enumerate([0, 20_000, *draw(st.lists(pauses, min_size=3, max_size=25))], 1000):
        time += pause
        fills = draw(st.integers(1, 3))
        trades.append(Trade("x", PAIR, time + 30, time, draw(prices), draw(sizes), number, fills))
    return trades


def bars_of_trades(trades: Sequence[Trade], timeframe: Timeframe) -> dict[int, Bar]:
    """Return the bars of a timeframe from the first complete one on, computed from trades without a roll-up."""
    bars, close = dict[int, Bar](), Decimal(0)
    first = MONDAY_THE_FIRST if timeframe.open_time(MONDAY_THE_FIRST) == MONDAY_THE_FIRST else None
    first = timeframe.close_time(timeframe.open_time(MONDAY_THE_FIRST)) if first is None else first
    close = next((t.price for t in reversed(trades) if t.time < first), trades[0].price)
    for opening in timeframe.open_times(first, trades[-1].time):
        some = [trade for trade in trades if opening <= trade.time < timeframe.close_time(opening)]
        bars[opening] = bar_of_trades(opening, some) if some else empty_bar(opening, close)
        close = bars[opening].close
    return bars


def bar_of_trades(opening: int, trades: Sequence[Trade]) -> Bar:
    """Return one bar as its definition says."""
    along = [trade.price for trade in trades]
    volume, quote = Decimal(0), Decimal(0)
    for trade in trades:
        volume, quote = (
            SUM_CONTEXT.add(volume, trade.size),
            SUM_CONTEXT.add(quote, SUM_CONTEXT.multiply(trade.price, trade.size)),
        )
    fills = sum(trade.fills for trade in trades)
    return Bar(opening, along[0], max(along), min(along), along[-1], volume, quote, fills)


def klines(trades: Sequence[Trade]) -> list[Kline]:
    """Return the kline of each minute that is over, also of the first one, whose trades are incomplete."""
    bars = bars_of_trades(trades, TIMEFRAMES["1m"])
    bars[trades[0].time // MINUTE_MS * MINUTE_MS] = bar_of_trades(
        trades[0].time // MINUTE_MS * MINUTE_MS, [t for t in trades if t.time < MONDAY_THE_FIRST]
    )
    return [Kline(SERIES["1m"], bar) for opening, bar in bars.items() if opening + MINUTE_MS <= trades[-1].time]


async def run_writer(store: MemoryStore, batches: Iterable[Sequence[Message]], restarts: Iterable[bool] = ()) -> None:
    """Process the batches as the writer does. After a batch marked in `restarts` a new processor gets it again."""
    fresh, processor = iter(restarts), BatchProcessor(store)
    await processor.load()
    for batch in batches:
        await save_batch(processor, batch)
        if next(fresh, False):
            processor = BatchProcessor(store)
            await processor.load()
            await save_batch(processor, batch)


async def save_batch(processor: BatchProcessor, batch: Sequence[Message]) -> None:
    await (await processor.apply(batch, MONDAY_THE_FIRST)).commit()


def closed_bars(store: MemoryStore, name: str) -> dict[int, Bar]:
    rows = store.candle_rows.get(SERIES[name], {})
    return {opening: candle.bar for opening, candle in rows.items() if candle.closed and opening >= MONDAY_THE_FIRST}


@settings(deadline=None, max_examples=60)
@given(trade_histories(), st.integers(1, 9))
def test_candles_of_every_timeframe_equal_bars_of_their_trades(trades: list[Trade], size: int) -> None:
    store = MemoryStore()
    asyncio.run(run_writer(store, [trades[at : at + size] for at in range(0, len(trades), size)]))
    for name, timeframe in TIMEFRAMES.items():
        truth = bars_of_trades(trades, timeframe)
        rows = {o: c for o, c in store.candle_rows.get(SERIES[name], {}).items() if o >= MONDAY_THE_FIRST}
        assert {opening: candle.bar for opening, candle in rows.items()} == truth
        for opening, candle in rows.items():
            assert candle.closed == (timeframe.close_time(opening) <= trades[-1].time // MINUTE_MS * MINUTE_MS)
            assert candle.revision == 0
            assert candle.source is (CandleSource.ROLLUP if timeframe.child else CandleSource.TRADES)


@settings(deadline=None, max_examples=60)
@given(st.data(), trade_histories())
def test_candles_are_the_same_in_any_order_of_messages_with_duplicates_and_restarts(
    data: st.DataObject, trades: list[Trade]
) -> None:
    doubled = data.draw(st.lists(st.sampled_from(trades), max_size=10))
    messages: list[Message] = data.draw(st.permutations([*trades, *doubled, *klines(trades)]))
    messages += data.draw(st.permutations(klines(trades)))
    size = data.draw(st.integers(1, 20))
    batches = [messages[at : at + size] for at in range(0, len(messages), size)]
    store = MemoryStore()
    asyncio.run(run_writer(store, batches, data.draw(st.lists(st.booleans(), max_size=len(batches)))))
    last = trades[-1].time // MINUTE_MS * MINUTE_MS
    for name, timeframe in TIMEFRAMES.items():
        truth = {o: bar for o, bar in bars_of_trades(trades, timeframe).items() if timeframe.close_time(o) <= last}
        assert closed_bars(store, name) == truth


@settings(deadline=None, max_examples=200)
@given(st.data(), trade_histories())
def test_minutes_with_lost_trades_are_not_closed_without_a_kline(data: st.DataObject, trades: list[Trade]) -> None:
    lost = data.draw(st.sets(st.sampled_from(trades[1:-1]), max_size=3))
    minutes, truth = MinuteBuilder(SERIES["1m"]), bars_of_trades(trades, TIMEFRAMES["1m"])
    made = [c for trade in trades if trade not in lost for c in minutes.add_trades([trade])]
    over = {candle.bar.open_time: candle.bar for candle in made if candle.closed}
    assert all(truth[opening] == bar for opening, bar in over.items())
    spoilt = set[int]()
    for trade in lost:
        seen = [other for other in trades if other not in lost]
        before = max(other.time for other in seen if other.trade_id < trade.trade_id)
        after = min(other.time for other in seen if other.trade_id > trade.trade_id)
        spoilt |= set(TIMEFRAMES["1m"].open_times(before // MINUTE_MS * MINUTE_MS, after))
    assert over.keys() == {o for o in truth if o + MINUTE_MS <= trades[-1].time // MINUTE_MS * MINUTE_MS} - spoilt


def test_candles_from_simulated_trades_equal_the_simulators_candles() -> None:
    """The simulator computes its candles in another way. The trades begin in a month's last minute."""
    listing = BINANCE["BTCUSDT"]
    tape = SimulatedMarket(seed=7).tape(listing)
    start = MONDAY_THE_FIRST - MINUTE_MS
    end = MONDAY_THE_FIRST + 125 * MINUTE_MS
    trades = [
        Trade(
            "x",
            PAIR,
            t.time,
            t.time,
            listing.price(t.price),
            listing.amount(t.size),
            t.id,
            t.last - t.first + 1,
        )
        for t in tape.trades(start, end)
    ]
    store = MemoryStore()
    asyncio.run(run_writer(store, [trades[at : at + 200] for at in range(0, len(trades), 200)]))
    for name in [name for name in TIMEFRAMES if name != "3d"]:  # no 3d candle begins in that time
        rows = {o: c.bar for o, c in store.candle_rows[SERIES[name]].items() if o >= MONDAY_THE_FIRST}
        opens = np.array(sorted(rows))
        bars = candles(tape, LENGTHS_MS[name], opens, end - 1)
        for row, opening in enumerate(opens.tolist()):
            o, h, low, close = (listing.price(int(column[row])) for column in bars[1:5])
            volume, quote = listing.amount(int(bars.volume[row])), listing.turnover(int(bars.quote[row]))
            fills = int(bars.last[row] - bars.first[row]) + 1
            assert rows[opening] == Bar(opening, o, h, low, close, volume, quote, fills)


def candle(values: Bar, *, over: bool, source: CandleSource, revision: int = 0) -> Candle:
    return Candle(SERIES["1m"], values, over, source, revision)


def test_kline_replaces_a_candle_of_trades_and_each_change_is_a_revision() -> None:
    ours, theirs, later = (empty_bar(0, Decimal(price)) for price in (1, 2, 3))
    forming = candle(ours, over=False, source=CandleSource.TRADES)
    built = candle(ours, over=True, source=CandleSource.TRADES)
    assert resolve(forming, built) == built
    assert resolve(built, forming) is None
    confirmed = resolve(built, candle(ours, over=True, source=CandleSource.EXCHANGE))
    assert confirmed == candle(ours, over=True, source=CandleSource.EXCHANGE)
    assert resolve(confirmed, candle(later, over=True, source=CandleSource.TRADES)) is None
    corrected = resolve(built, candle(theirs, over=True, source=CandleSource.EXCHANGE))
    assert corrected == candle(theirs, over=True, source=CandleSource.EXCHANGE, revision=1)
    again = resolve(corrected, candle(later, over=True, source=CandleSource.EXCHANGE))
    assert again == candle(later, over=True, source=CandleSource.EXCHANGE, revision=2)
    assert resolve(again, from_kline(Kline(SERIES["1m"], later))) is None
    assert resolve(again, from_kline(Kline(SERIES["1m"], ours, CandleSource.IMPORT))) is None, (
        "its files may be cut short"
    )
    imported = candle(ours, over=True, source=CandleSource.IMPORT)
    assert resolve(built, candle(theirs, over=True, source=CandleSource.IMPORT)) == replace(
        imported, bar=theirs, revision=1
    )
    assert resolve(imported, candle(ours, over=True, source=CandleSource.EXCHANGE)) == confirmed


def test_idle_minutes_are_closed_only_while_the_live_feed_proves_that_no_trade_is_missing() -> None:
    async def play(
        feed: FeedStatus, transport: str, drained: bool, ahead: int = 0, offset: int | None = 0
    ) -> list[Candle]:
        processor = BatchProcessor(MemoryStore())
        trades = [
            Trade("x", PAIR, at, at, Decimal(5), Decimal(1), number)
            for number, at in enumerate([MONDAY_THE_FIRST - 1_000, MONDAY_THE_FIRST + 1_000])
        ]
        await save_batch(processor, trades)
        now = MONDAY_THE_FIRST + 2 * MINUTE_MS + 5_000 + ahead  # by a clock that may be ahead
        source = InstrumentFeed(PAIR, feed, now, now)
        state = ExchangeStatus("x", now, True, transport, "", "", 0, now, 0, False, (source,), clock_offset=offset)
        pending = await processor.close_idle_minutes({"x": state}, drained, now)
        return [candle for candle in pending.candles if candle.series.timeframe == "1m"]

    first, second = asyncio.run(play(FeedStatus.LIVE, "socket", drained=True))
    assert (first.closed, first.kind, first.source) == (True, "traded", CandleSource.TRADES)
    assert (second.closed, second.kind, second.bar) == (
        True,
        "empty",
        empty_bar(MONDAY_THE_FIRST + MINUTE_MS, Decimal(5)),
    )
    assert asyncio.run(play(FeedStatus.SILENT, "socket", drained=True)) == []
    assert asyncio.run(play(FeedStatus.LIVE, "polling", drained=True)) == []
    assert asyncio.run(play(FeedStatus.LIVE, "socket", drained=False)) == []
    day = 1440 * MINUTE_MS
    for ahead in (-day, -60 * MINUTE_MS, 3 * MINUTE_MS, day):
        assert asyncio.run(play(FeedStatus.LIVE, "socket", True, ahead, -ahead)) == [first, second]
        assert asyncio.run(play(FeedStatus.LIVE, "socket", True, ahead, None)) == []


def test_trade_from_the_future_does_not_block_later_trades() -> None:
    def trade(number: int, at: int) -> Trade:
        return Trade("x", PAIR, at, at, Decimal(number), Decimal(1), number)

    minutes, start, year = MinuteBuilder(SERIES["1m"]), MONDAY_THE_FIRST, 365 * 1440 * MINUTE_MS
    minutes.add_trades([trade(1, start - 1), trade(2, start)])
    minutes.add_trades([trade(9, start + year)])
    again = MinuteBuilder(
        SERIES["1m"],
        minutes.cursor,
        Candle(SERIES["1m"], empty_bar(start + year, Decimal(9)), True, CandleSource.TRADES),
    )
    for resumed in (minutes, again):
        made = resumed.add_trades(
            [trade(10, start + 10_000), trade(11, start + MINUTE_MS), trade(12, start + 2 * MINUTE_MS)]
        )
        assert [(c.bar.open_time, c.bar.close, c.closed) for c in made] == [
            (start + MINUTE_MS, Decimal(11), True),
            (start + 2 * MINUTE_MS, Decimal(12), False),
        ], "the first trades of the minute before are lost"


def test_candle_gap_is_split_into_absent_and_repaired_ranges() -> None:
    openings = [MONDAY_THE_FIRST + number * MINUTE_MS for number in range(4)]
    klines_of_minutes = [Kline(SERIES["1m"], empty_bar(opening, Decimal(5))) for opening in openings]
    gap = CandleGap(SERIES["1m"], openings[0], openings[3], detected=1)
    lacking = CandleGap(SERIES["1m"], openings[0], openings[1], 2, CandleGapState.ABSENT, 2)
    store = MemoryStore()
    asyncio.run(run_writer(store, [[gap], [lacking], klines_of_minutes[2:3]]))
    rest = CandleGap(SERIES["1m"], openings[2], openings[3], detected=1)
    assert list(store.gap_rows.values()) == [lacking, rest]
    asyncio.run(run_writer(store, [klines_of_minutes[3:]]))
    repaired = replace(
        rest, state=CandleGapState.REPAIRED, resolved=MONDAY_THE_FIRST, repaired_from=CandleSource.EXCHANGE
    )
    assert list(store.gap_rows.values()) == [lacking, repaired]
    asyncio.run(run_writer(store, [klines_of_minutes[:2]]))
    assert store.gap_rows[SERIES["1m"], openings[0], openings[1]].state is CandleGapState.REPAIRED
