"""Candles: whatever comes, in whatever order, they are what the trades and the exchange's own candles say."""

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.core.candles import EXACT, empty, of_kline, settled
from services.core.minute_builder import Minutes
from services.core.model import (
    Bar,
    Candle,
    Feed,
    Hole,
    HoleState,
    Instrument,
    Kline,
    Message,
    Origin,
    Series,
    Source,
    State,
    Trade,
)
from services.core.timeframes import MINUTE, TIMEFRAMES, Timeframe
from services.simulator.market.listings import BINANCE
from services.simulator.market.simulated_market import Market
from services.simulator.market.tape_candles import LENGTHS, candles
from services.writer.batch_processor import Book
from tests.memory_store import Kept, as_store

PAIR = Instrument("BTC", "USDT")
MONDAY_THE_FIRST = 1_704_067_200_000  # 2024-01-01, where days, weeks and months begin
SERIES = {name: Series("x", PAIR, name) for name in TIMEFRAMES}
prices = st.integers(1, 9_999).map(lambda ticks: Decimal(ticks) / 100)
sizes = st.integers(1, 10**9).map(lambda lots: Decimal(lots) / 10**8)


@st.composite
def markets(draw: st.DrawFn) -> list[Trade]:
    """Trades from the last minute of a month on, with long silences."""
    pauses = st.sampled_from([0, 1, 500, 9_000, 40_000, MINUTE, 3 * MINUTE])
    time, trades = MONDAY_THE_FIRST - 20_000, list[Trade]()
    for number, pause in enumerate([0, 20_000, *draw(st.lists(pauses, min_size=3, max_size=25))], 1000):
        time += pause
        fills = draw(st.integers(1, 3))
        trades.append(Trade("x", PAIR, time + 30, time, draw(prices), draw(sizes), number, fills))
    return trades


def direct(trades: Sequence[Trade], timeframe: Timeframe) -> dict[int, Bar]:
    """The bars of a timeframe from the first whole minute on, without any rolling."""
    bars, close = dict[int, Bar](), Decimal(0)
    first = MONDAY_THE_FIRST if timeframe.opening(MONDAY_THE_FIRST) == MONDAY_THE_FIRST else None
    first = timeframe.closing(timeframe.opening(MONDAY_THE_FIRST)) if first is None else first
    close = next((t.price for t in reversed(trades) if t.time < first), trades[0].price)
    for opening in timeframe.openings(first, trades[-1].time):
        some = [trade for trade in trades if opening <= trade.time < timeframe.closing(opening)]
        bars[opening] = aggregate(opening, some) if some else empty(opening, close)
        close = bars[opening].close
    return bars


def aggregate(opening: int, trades: Sequence[Trade]) -> Bar:
    """One bar, as its definition says."""
    along = [trade.price for trade in trades]
    volume, quote = Decimal(0), Decimal(0)
    for trade in trades:
        volume, quote = EXACT.add(volume, trade.size), EXACT.add(quote, EXACT.multiply(trade.price, trade.size))
    fills = sum(trade.fills for trade in trades)
    return Bar(opening, along[0], max(along), min(along), along[-1], volume, quote, fills)


def klines(trades: Sequence[Trade]) -> list[Kline]:
    """The exchange's word on each minute that ended, the first one included, which nobody else saw whole."""
    bars = direct(trades, TIMEFRAMES["1m"])
    bars[trades[0].time // MINUTE * MINUTE] = aggregate(
        trades[0].time // MINUTE * MINUTE, [t for t in trades if t.time < MONDAY_THE_FIRST]
    )
    return [Kline(SERIES["1m"], bar) for opening, bar in bars.items() if opening + MINUTE <= trades[-1].time]


async def write(store: Kept, batches: Iterable[Sequence[Message]], restarts: Iterable[bool] = ()) -> None:
    """What the writer does. Where `restarts` says so there is a new one, which gets the batch again."""
    fresh, book = iter(restarts), Book(as_store(store))
    await book.load()
    for batch in batches:
        await keep(store, book, batch)
        if next(fresh, False):
            book = Book(as_store(store))
            await book.load()
            await keep(store, book, batch)


async def keep(store: Kept, book: Book, batch: Sequence[Message]) -> None:
    items = await book.take(batch, MONDAY_THE_FIRST)
    await store.save(*items)
    book.saved(items)


def closed(store: Kept, name: str) -> dict[int, Bar]:
    rows = store.rows.get(SERIES[name], {})
    return {opening: candle.bar for opening, candle in rows.items() if candle.closed and opening >= MONDAY_THE_FIRST}


@settings(deadline=None, max_examples=60)
@given(markets(), st.integers(1, 9))
def test_every_timeframe_is_what_its_trades_come_to(trades: list[Trade], size: int) -> None:
    store = Kept()
    asyncio.run(write(store, [trades[at : at + size] for at in range(0, len(trades), size)]))
    for name, timeframe in TIMEFRAMES.items():
        truth = direct(trades, timeframe)
        rows = {o: c for o, c in store.rows.get(SERIES[name], {}).items() if o >= MONDAY_THE_FIRST}
        assert {opening: candle.bar for opening, candle in rows.items()} == truth
        for opening, candle in rows.items():
            assert candle.closed == (timeframe.closing(opening) <= trades[-1].time // MINUTE * MINUTE)
            assert candle.revision == 0
            assert candle.source is (Origin.ROLLUP if timeframe.child else Origin.TICKS)


@settings(deadline=None, max_examples=60)
@given(st.data(), markets())
def test_in_any_order_doubled_and_with_restarts_it_is_the_same_in_the_end(
    data: st.DataObject, trades: list[Trade]
) -> None:
    doubled = data.draw(st.lists(st.sampled_from(trades), max_size=10))
    messages: list[Message] = data.draw(st.permutations([*trades, *doubled, *klines(trades)]))
    messages += data.draw(st.permutations(klines(trades)))
    size = data.draw(st.integers(1, 20))
    batches = [messages[at : at + size] for at in range(0, len(messages), size)]
    store = Kept()
    asyncio.run(write(store, batches, data.draw(st.lists(st.booleans(), max_size=len(batches)))))
    last = trades[-1].time // MINUTE * MINUTE
    for name, timeframe in TIMEFRAMES.items():
        truth = {o: bar for o, bar in direct(trades, timeframe).items() if timeframe.closing(o) <= last}
        assert closed(store, name) == truth


@settings(deadline=None, max_examples=200)
@given(st.data(), markets())
def test_without_the_exchanges_word_only_whole_minutes_are_closed(data: st.DataObject, trades: list[Trade]) -> None:
    lost = data.draw(st.sets(st.sampled_from(trades[1:-1]), max_size=3))
    minutes, truth = Minutes(SERIES["1m"]), direct(trades, TIMEFRAMES["1m"])
    made = [c for trade in trades if trade not in lost for c in minutes.take([trade])]
    over = {candle.bar.timestamp: candle.bar for candle in made if candle.closed}
    assert all(truth[opening] == bar for opening, bar in over.items())
    spoilt = set[int]()
    for trade in lost:
        seen = [other for other in trades if other not in lost]
        before = max(other.time for other in seen if other.number < trade.number)
        after = min(other.time for other in seen if other.number > trade.number)
        spoilt |= set(TIMEFRAMES["1m"].openings(before // MINUTE * MINUTE, after))
    assert over.keys() == {o for o in truth if o + MINUTE <= trades[-1].time // MINUTE * MINUTE} - spoilt


def test_rolled_up_trades_of_the_played_exchange_are_its_own_candles() -> None:
    """From a month's last minute on; truth are the simulator's bars, which are summed another way."""
    listing = BINANCE["BTCUSDT"]
    tape = Market(seed=7).tape(listing)
    start = MONDAY_THE_FIRST - MINUTE
    end = MONDAY_THE_FIRST + 125 * MINUTE
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
    store = Kept()
    asyncio.run(write(store, [trades[at : at + 200] for at in range(0, len(trades), 200)]))
    for name in [name for name in TIMEFRAMES if name != "3d"]:  # of which none began
        rows = {o: c.bar for o, c in store.rows[SERIES[name]].items() if o >= MONDAY_THE_FIRST}
        opens = np.array(sorted(rows))
        bars = candles(tape, LENGTHS[name], opens, end - 1)
        for row, opening in enumerate(opens.tolist()):
            o, h, low, close = (listing.price(int(column[row])) for column in bars[1:5])
            volume, quote = listing.amount(int(bars.volume[row])), listing.turnover(int(bars.quote[row]))
            fills = int(bars.last[row] - bars.first[row]) + 1
            assert rows[opening] == Bar(opening, o, h, low, close, volume, quote, fills)


def candle(values: Bar, *, over: bool, source: Origin, revision: int = 0) -> Candle:
    return Candle(SERIES["1m"], values, over, source, revision)


def test_the_exchanges_word_outranks_ours_and_each_change_of_a_closed_candle_is_a_revision() -> None:
    ours, theirs, later = (empty(0, Decimal(price)) for price in (1, 2, 3))
    forming = candle(ours, over=False, source=Origin.TICKS)
    built = candle(ours, over=True, source=Origin.TICKS)
    assert settled(forming, built) == built
    assert settled(built, forming) is None
    confirmed = settled(built, candle(ours, over=True, source=Origin.EXCHANGE))
    assert confirmed == candle(ours, over=True, source=Origin.EXCHANGE)
    assert settled(confirmed, candle(later, over=True, source=Origin.TICKS)) is None
    corrected = settled(built, candle(theirs, over=True, source=Origin.EXCHANGE))
    assert corrected == candle(theirs, over=True, source=Origin.EXCHANGE, revision=1)
    again = settled(corrected, candle(later, over=True, source=Origin.EXCHANGE))
    assert again == candle(later, over=True, source=Origin.EXCHANGE, revision=2)
    assert settled(again, of_kline(Kline(SERIES["1m"], later))) is None
    assert settled(again, of_kline(Kline(SERIES["1m"], ours, Origin.IMPORT))) is None, "its files may be cut short"
    imported = candle(ours, over=True, source=Origin.IMPORT)
    assert settled(built, candle(theirs, over=True, source=Origin.IMPORT)) == replace(imported, bar=theirs, revision=1)
    assert settled(imported, candle(ours, over=True, source=Origin.EXCHANGE)) == confirmed


def test_a_silent_market_closes_its_minutes_once_it_is_certain() -> None:
    async def play(feed: Feed, transport: str, drained: bool, ahead: int = 0, told: int | None = 0) -> list[Candle]:
        store, book = Kept(), Book(as_store(Kept()))
        trades = [
            Trade("x", PAIR, at, at, Decimal(5), Decimal(1), number)
            for number, at in enumerate([MONDAY_THE_FIRST - 1_000, MONDAY_THE_FIRST + 1_000])
        ]
        await keep(store, book, trades)
        now = MONDAY_THE_FIRST + 2 * MINUTE + 5_000 + ahead  # by a clock of ours that may be ahead
        source = Source(PAIR, feed, now, now)
        state = State("x", now, True, transport, "", "", 0, now, 0, False, (source,), clock_offset=told)
        items = await book.quiet({"x": state}, drained, now)
        return [item for item in items if isinstance(item, Candle) and item.series.timeframe == "1m"]

    first, second = asyncio.run(play(Feed.LIVE, "socket", drained=True))
    assert (first.closed, first.kind, first.source) == (True, "traded", Origin.TICKS)
    assert (second.closed, second.kind, second.bar) == (True, "empty", empty(MONDAY_THE_FIRST + MINUTE, Decimal(5)))
    assert asyncio.run(play(Feed.SILENT, "socket", drained=True)) == []
    assert asyncio.run(play(Feed.LIVE, "polling", drained=True)) == []
    assert asyncio.run(play(Feed.LIVE, "socket", drained=False)) == []
    day = 1440 * MINUTE
    for ahead in (-day, -60 * MINUTE, 3 * MINUTE, day):
        assert asyncio.run(play(Feed.LIVE, "socket", True, ahead, -ahead)) == [first, second]
        assert asyncio.run(play(Feed.LIVE, "socket", True, ahead, None)) == []


def test_a_trade_of_the_future_holds_nobody_up_that_comes_after_it() -> None:
    def trade(number: int, at: int) -> Trade:
        return Trade("x", PAIR, at, at, Decimal(number), Decimal(1), number)

    minutes, start, year = Minutes(SERIES["1m"]), MONDAY_THE_FIRST, 365 * 1440 * MINUTE
    minutes.take([trade(1, start - 1), trade(2, start)])
    minutes.take([trade(9, start + year)])
    again = Minutes(
        SERIES["1m"], minutes.cursor, Candle(SERIES["1m"], empty(start + year, Decimal(9)), True, Origin.TICKS)
    )
    for resumed in (minutes, again):
        made = resumed.take([trade(10, start + 10_000), trade(11, start + MINUTE), trade(12, start + 2 * MINUTE)])
        assert [(c.bar.timestamp, c.bar.close, c.closed) for c in made] == [
            (start + MINUTE, Decimal(11), True),
            (start + 2 * MINUTE, Decimal(12), False),
        ], "of the minute before, the first trades are not known any more"


def test_a_hole_is_noticed_filled_and_remembered_and_what_the_exchange_lacks_is_not_waited_for() -> None:
    openings = [MONDAY_THE_FIRST + number * MINUTE for number in range(4)]
    words = [Kline(SERIES["1m"], empty(opening, Decimal(5))) for opening in openings]
    hole = Hole(SERIES["1m"], openings[0], openings[3], noticed=1)
    lacking = Hole(SERIES["1m"], openings[0], openings[1], 2, HoleState.ABSENT, 2)
    store = Kept()
    asyncio.run(write(store, [[hole], [lacking], words[2:3]]))
    rest = Hole(SERIES["1m"], openings[2], openings[3], noticed=1)
    assert list(store.noticed.values()) == [lacking, rest]
    asyncio.run(write(store, [words[3:]]))
    repaired = replace(rest, state=HoleState.REPAIRED, settled=MONDAY_THE_FIRST, origin=Origin.EXCHANGE)
    assert list(store.noticed.values()) == [lacking, repaired]
    asyncio.run(write(store, [words[:2]]))
    assert store.noticed[SERIES["1m"], openings[0]].state is HoleState.REPAIRED
