"""The simulated market: candles, quotes and order books all agree with its trades."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.model import Instrument
from services.simulator.market.bar_columns import BarColumns, TapeTrade
from services.simulator.market.listings import BINANCE, DAY, DERIBIT, INDICES, MINUTE, SECOND, SimulatedListing
from services.simulator.market.order_book import OrderBook, order_book, update
from services.simulator.market.simulated_market import SimulatedMarket
from services.simulator.market.tape import trades_between
from services.simulator.market.tape_candles import LENGTHS_MS, candles, openings, summary
from services.simulator.market.tape_quotes import quote, quotes

MARKET = SimulatedMarket(1)
LISTINGS = [*BINANCE.values(), *DERIBIT.values()]
BTC = MARKET.tape(BINANCE["BTCUSDT"])
TODAY = 1_795_000_000_123
instants = st.integers(BTC.start + DAY, TODAY)


def bar_of_trades(trades: Sequence[TapeTrade], opened: int) -> tuple[int, ...]:
    """Compute a bar one trade at a time."""
    prices, bought = [trade.price for trade in trades], [trade for trade in trades if not trade.sold]
    return (
        opened,
        *(prices[0], max(prices), min(prices), prices[-1]),
        sum(trade.size for trade in trades),
        sum(trade.size * trade.price for trade in trades),
        sum(trade.size for trade in bought),
        sum(trade.size * trade.price for trade in bought),
        *(trades[0].first, trades[-1].last),
    )


def rows(bars: BarColumns) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in bars), strict=True))


def boundary(interval: str, time: int) -> int:
    """Return the open time of the bar that contains `time`, by the calendar."""
    date = datetime.fromtimestamp(time / 1000, UTC)
    day = date.replace(hour=0, minute=0, second=0, microsecond=0)
    match interval[-1]:
        case "M":
            day = day.replace(day=1)
        case "w":
            day -= timedelta(days=day.weekday())
        case "d":
            first = datetime(1970, 1, 2 if interval == "3d" else 1, tzinfo=UTC)
            day -= timedelta(days=(day - first).days % int(interval[:-1]))
        case unit:
            units = {"s": SECOND, "m": MINUTE, "h": 60 * MINUTE}[unit] * int(interval[:-1])
            return time // units * units
    return int(day.timestamp()) * 1000


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(LISTINGS), instants, st.integers(1, 40))
def test_minutes_equal_bars_of_their_trades(listing: SimulatedListing, now: int, count: int) -> None:
    tape = MARKET.tape(listing)
    found = candles(tape, MINUTE, openings(MINUTE, None, now, count), now)
    start = int(found.time[0])
    groups = groupby(tape.trades(start, now + 1), key=lambda trade: trade.time // MINUTE * MINUTE)
    assert traded_only(rows(found)) == [bar_of_trades(list(trades), opened) for opened, trades in groups]


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([name for name in LENGTHS_MS if name not in ("1s", "1m")]), instants)
def test_candles_of_every_timeframe_equal_their_minutes(interval: str, now: int) -> None:
    length = LENGTHS_MS[interval]
    found = rows(candles(BTC, length, openings(length, None, now, 3), now))
    minutes = rows(candles(BTC, MINUTE, openings(MINUTE, found[0][0], now, 10**6), now))
    groups = groupby(traded_only(minutes), key=lambda row: boundary(interval, row[0]))
    assert traded_only(found) == [join_minutes(list(group), opened) for opened, group in groups]


def traded_only(bars: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the bars that have a trade."""
    return [row for row in bars if row[-1] >= 0]


def join_minutes(minutes: list[tuple[int, ...]], opened: int) -> tuple[int, ...]:
    columns = list(zip(*minutes, strict=True))
    sums = [sum(column) for column in columns[5:9]]
    ends = (minutes[0][1], max(columns[2]), min(columns[3]), minutes[-1][4])
    return (opened, *ends, *sums, minutes[0][9], minutes[-1][10])


def test_second_without_trades_is_a_flat_candle() -> None:
    tape, now = MARKET.tape(BINANCE["USDCUSDT"]), TODAY // MINUTE * MINUTE - 1
    found = candles(tape, SECOND, openings(SECOND, None, now, 60), now)
    busy = {trade.time // SECOND * SECOND for trade in tape.trades(now - MINUTE, now + 1)}
    assert 0 < len(busy) < len(found.time) == 60
    close = tape.last_before(int(found.time[0]))
    last = close.price if close else 0
    for opened, first, high, low, end, volume, *_, first_id, last_id in rows(found):
        if opened not in busy:
            assert (first, high, low, end, volume, first_id, last_id) == (last, last, last, last, 0, -1, -1)
        last = end


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(LISTINGS), instants, st.integers(1, 600_000), st.data())
def test_trades_and_quotes_of_two_windows_equal_those_of_the_union(
    listing: SimulatedListing, start: int, ms: int, data: st.DataObject
) -> None:
    tape, end = MARKET.tape(listing), start + ms
    middle = data.draw(st.integers(start, end))
    trades = tape.trades(start, end)
    assert tape.trades(start, middle) + tape.trades(middle, end) == trades
    assert [trade.id for trade in trades] == list(range(trades[0].id, trades[-1].id + 1)) if trades else True
    assert trades_between(tape, start, end - 1, 10**6) == trades
    if trades:
        assert tape.from_id(trades[0].id, len(trades)) == trades
        assert tape.last_before(end) == trades[-1]
    assert quotes(tape, start, middle) + quotes(tape, middle, end) == quotes(tape, start, end)


def test_market_depends_on_the_seed_alone() -> None:
    again, other = SimulatedMarket(1), SimulatedMarket(2)
    for listing in LISTINGS:
        window = (TODAY - 5 * MINUTE, TODAY)
        assert again.tape(listing).trades(*window) == MARKET.tape(listing).trades(*window)
        assert other.tape(listing).trades(*window) != MARKET.tape(listing).trades(*window)


@settings(max_examples=20, deadline=None)
@given(instants)
def test_prices_of_all_exchanges_are_within_basis_points(now: int) -> None:
    """As between real exchanges; a last trade may be seconds old."""
    dollars = {"BTC": MARKET.price_in("BTC", "USD", now), "ETH": MARKET.price_in("ETH", "USD", now)}
    tether = MARKET.price_in("USDT", "USD", now)
    assert tether == pytest.approx(1, abs=0.005)
    assert MARKET.price_in("USDT", "RUB", now) == pytest.approx(80, rel=0.15)
    for asset, value in dollars.items():
        assert last_price(f"{asset}USDT", now) * tether == pytest.approx(value, rel=4e-3)
        assert last_price(f"{asset}-PERPETUAL", now) == pytest.approx(value, rel=4e-3)
        assert MARKET.index(f"{asset}_USD".lower(), now) == pytest.approx(value, rel=1e-3)
    for name in INDICES:
        pair = Instrument(*name.upper().split("_"))
        cross = exp(MARKET.price_model.log_price_at(pair.base, now) - MARKET.price_model.log_price_at(pair.quote, now))
        assert MARKET.index(name, now) == pytest.approx(cross, rel=1e-3)


def last_price(symbol: str, now: int) -> float:
    listing = BINANCE.get(symbol) or DERIBIT[symbol]
    trade = MARKET.tape(listing).last_before(now)
    assert trade
    return float(listing.price(trade.price))


def test_busy_listing_trades_every_second_and_has_a_spread_of_a_few_ticks() -> None:
    minute = (TODAY - MINUTE, TODAY)
    assert len(BTC.trades(*minute)) > 60
    assert len(quotes(BTC, *minute)) > 3 * 60
    assert 2 < len(MARKET.tape(BINANCE["USDCUSDT"]).trades(*minute)) < 60
    spreads = [change.ask - change.bid for change in quotes(BTC, *minute)]
    assert min(spreads) == 1
    assert max(spreads) < 10


def test_history_begins_on_the_first_day_of_its_listing_with_trade_id_one() -> None:
    tape = SimulatedMarket(3).tape(BINANCE["BTCUSDT"])
    ever = rows(candles(tape, 0, openings(0, 0, TODAY, 1000), TODAY))
    assert datetime.fromtimestamp(ever[0][0] / 1000, UTC) == datetime(2017, 8, 1, tzinfo=UTC)
    assert tape.trades(0, tape.start) == []
    assert [ever[0][9], *(row[9] for row in ever[1:])] == [1, *(row[10] + 1 for row in ever[:-1])]


@pytest.mark.parametrize("interval", [name for name in LENGTHS_MS if name != "1s"])
def test_thousand_candles_are_computed_without_drawing_their_trades(interval: str) -> None:
    """Also the first ones of a new market. Years of trades would take minutes."""
    tape, length = SimulatedMarket(4).tape(BINANCE["ETHUSDT"]), LENGTHS_MS[interval]
    started = time.process_time()
    found = candles(tape, length, openings(length, None, TODAY, 1000), TODAY)
    assert time.process_time() - started < 0.2  # a tenth of that on an idle machine
    assert len(found.time) > 100


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT", "BTC-PERPETUAL"])
def test_prices_do_not_jump_between_hours_or_days(symbol: str) -> None:
    """A price moves as little over midnight as between any two minutes."""
    tape = MARKET.tape(BINANCE.get(symbol) or DERIBIT[symbol])
    minutes = candles(tape, MINUTE, openings(MINUTE, None, TODAY, 60 * 1440), TODAY)
    gaps = np.log(minutes.open[1:] / minutes.close[:-1])
    moves = np.log(minutes.close[1:] / minutes.close[:-1])
    for length in (60 * MINUTE, DAY):
        meeting = gaps[minutes.time[1:] % length == 0]
        assert len(meeting) > 50
        assert meeting.std() < moves.std()
        assert abs(meeting).max() < 4 * moves.std()


def test_returns_have_the_assets_volatility_and_no_correlation() -> None:
    """Volatility is proportional to the square root of the timeframe."""
    for interval, count in (("1d", 2500), ("1h", 5000), ("1m", 20_000)):
        length = LENGTHS_MS[interval]
        closes = candles(BTC, length, openings(length, None, TODAY, count), TODAY).close
        moves = np.log(closes[1:] / closes[:-1]) * (DAY / length) ** 0.5
        assert 0.018 < moves.std() < 0.032, interval
        assert abs(np.corrcoef(moves[1:], moves[:-1])[0, 1]) < 0.2, interval


@settings(max_examples=8, deadline=None)
@given(instants, st.integers(1, 3 * DAY))
def test_summary_equals_a_bar_of_all_trades_between(start: int, ms: int) -> None:
    tape = MARKET.tape(BINANCE["BNBBTC"])
    found = rows(summary(tape, start, start + ms))
    trades = tape.trades(start, start + ms)
    assert found == ([bar_of_trades(trades, start)] if trades else [])


@pytest.mark.parametrize("minutes", [-12 * 60, 5 * 60 + 30, 8 * 60])
def test_days_of_a_time_zone_begin_at_its_midnight(minutes: int) -> None:
    shift = minutes * MINUTE
    found = candles(BTC, DAY, openings(DAY, None, TODAY, 3, shift), TODAY, shift)
    assert [(opened + shift) % DAY for opened in found.time.tolist()] == [0, 0, 0]
    assert rows(found)[0] == bar_of_trades(BTC.trades(int(found.time[0]), int(found.time[1])), int(found.time[0]))


DEPTH = 300


def order_book_at(symbol: str, at: int) -> OrderBook:
    book = order_book(MARKET.tape(BINANCE[symbol]), at)
    assert book
    return book


def best(levels: dict[int, int], highest: bool) -> list[tuple[int, int]]:
    return sorted(levels.items(), reverse=highest)[:20]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "USDCUSDT", "ETHBTC"])
@settings(max_examples=20, deadline=None)
@given(start=instants, windows=st.lists(st.integers(1, 3000), min_size=1, max_size=30), read=st.integers(0, 3000))
def test_order_book_after_all_updates_equals_the_current_one(
    symbol: str, start: int, windows: list[int], read: int
) -> None:
    tape, book = MARKET.tape(BINANCE[symbol]), order_book_at(symbol, start + read)
    bids, asks, number = dict(book.bids(DEPTH)), dict(book.asks(DEPTH)), book.top.time
    at, last = start, order_book_at(symbol, start).top.time
    for window in windows:
        at += window
        if change := update(tape, at - window, at):
            assert (change.first, change.last) == (last + 1, order_book_at(symbol, at).top.time)
            last = change.last
            if last > number:
                for side, levels in ((bids, change.bids), (asks, change.asks)):
                    side.update(levels)
                    for price in [price for price, size in side.items() if not size]:
                        del side[price]
    if last > number:
        now = order_book_at(symbol, at)
        assert best(bids, highest=True) == now.bids(20)
        assert best(asks, highest=False) == now.asks(20)
        top = quote(tape, at)
        assert top
        assert (now.bids(1), now.asks(1)) == ([(top.bid, top.bid_size)], [(top.ask, top.ask_size)])
