"""Indicators compared with references, with figures computed by hand, and with longer windows."""

import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from services.core.errors import BadRange, BadRequest, KursError, UnknownName
from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators import (
    CATALOG,
    STANDARD,
    Indicator,
    IndicatorSpec,
    OhlcvColumns,
    Parameter,
    compute,
    compute_levels,
    concat_columns,
    future_values,
    lookahead,
    parse_specs,
    stable_from,
    to_columns,
    warmup,
)
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import DAY_MS, MINUTE_MS, TIMEFRAMES
from tests.indicator_references import (
    M1,
    MIDNIGHT,
    SERIES,
    Floats,
    PandasFrame,
    almost_equal,
    pandas_ta,
    parse_spec,
    random_walk,
    sar,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandas as pd  # type: ignore[import-untyped]


def flat(prices: Sequence[float], volumes: Sequence[float] = (), since: int = MIDNIGHT) -> OhlcvColumns:
    """Return minutes in which high, low and close are one price."""
    price = np.array(prices, np.float64)
    time = since + np.arange(len(prices), dtype=np.int64) * MINUTE_MS
    return OhlcvColumns(time, price, price, price, price, np.array(volumes or [1.0] * len(prices), np.float64))


def wilder(values: Floats, period: int) -> Floats:
    """Compute Wilder's average step by step."""
    found = np.full(len(values), np.nan)
    found[period - 1] = values[:period].mean()
    for place in range(period, len(values)):
        found[place] = (found[place - 1] * (period - 1) + values[place]) / period
    return found


def true_range(all_of: OhlcvColumns) -> Floats:
    last = np.r_[all_of.close[0], all_of.close[:-1]]
    return np.maximum(all_of.high, last) - np.minimum(all_of.low, last)


def keltner(all_of: OhlcvColumns) -> list[Floats]:
    middle = np.array(PandasFrame(all_of).close.ewm(span=20, adjust=False).mean())
    reach = 2 * wilder(true_range(all_of), 10)
    return [middle + reach, middle, middle - reach]


def supertrend(all_of: OhlcvColumns) -> list[Floats]:
    """Compute Supertrend as TradingView's script does."""
    reach, middle = 3 * wilder(true_range(all_of), 10), (all_of.high + all_of.low) / 2
    line, side = np.full(len(middle), np.nan), np.full(len(middle), np.nan)
    up, down = middle + reach, middle - reach
    for place in range(10, len(middle)):
        last = all_of.close[place - 1]
        if not (down[place] > down[place - 1] or last < down[place - 1]):
            down[place] = down[place - 1]
        if not (up[place] < up[place - 1] or last > up[place - 1]):
            up[place] = up[place - 1]
        below = line[place - 1] != up[place - 1]
        rising = all_of.close[place] >= down[place] if below else all_of.close[place] > up[place]
        side[place], line[place] = (1, down[place]) if rising else (-1, up[place])
    return [line, side]


def psar(all_of: OhlcvColumns) -> list[Floats]:
    """Compute TradingView's PSAR, one candle at a time, from the state of the one before."""
    stops, state = [np.nan], (False, 0.0, 0.0, 0.0)
    for place in range(1, len(all_of.open_times)):
        high, low, close = (column[: place + 1][-3:].tolist() for column in (all_of.high, all_of.low, all_of.close))
        rising, stop, extreme, share = state
        first = place == 1
        if first:
            rising = close[1] > close[0]
            stop, extreme, share = (low[0], high[1], 0.02) if rising else (high[0], low[1], 0.02)
        stop = stop + share * (extreme - stop)
        if rising and stop > low[-1]:
            first, rising, stop, extreme, share = True, False, max(high[-1], extreme), low[-1], 0.02
        elif not rising and stop < high[-1]:
            first, rising, stop, extreme, share = True, True, min(low[-1], extreme), high[-1], 0.02
        if not first and (high[-1] > extreme if rising else low[-1] < extreme):
            extreme, share = high[-1] if rising else low[-1], min(share + 0.02, 0.2)
        stop = min(stop, *low[:-1]) if rising else max(stop, *high[:-1])
        state = rising, stop, extreme, share
        stops.append(stop)
    return [np.array(stops)]


def ichimoku(all_of: OhlcvColumns) -> list[Floats]:
    """With a displacement of 26 TradingView shifts the spans by 25 candles, and the close by 25 back."""
    high, low = PandasFrame(all_of).high, PandasFrame(all_of).low
    short, middle, long = (((high.rolling(n).max() + low.rolling(n).min()) / 2).to_numpy() for n in (9, 26, 52))
    spans = [np.r_[np.full(25, np.nan), span[:-25]] for span in ((short + middle) / 2, long)]
    return [short, middle, *spans, np.r_[all_of.close[25:], np.full(25, np.nan)]]


def volume(all_of: OhlcvColumns) -> list[Floats]:
    return [all_of.volume, PandasFrame(all_of).volume.rolling(20).mean().to_numpy()]


def obv(all_of: OhlcvColumns) -> list[Floats]:
    signs = np.sign(np.diff(all_of.close, prepend=all_of.close[0]))
    return [np.cumsum(signs * all_of.volume)]


PRICES = ("high", "low", "close")
REFERENCES: Mapping[str, Callable[[OhlcvColumns], list[Floats]]] = {
    "sma": pandas_ta("sma", "close", length=20),
    "ema": pandas_ta("ema", "close", length=20),
    "wma": pandas_ta("wma", "close", length=20),
    "bbands": pandas_ta("bbands", "close", length=20, std=2, ddof=0, places=(2, 1, 0)),
    "keltner": keltner,
    "donchian": pandas_ta("donchian", "high", "low", lower_length=20, upper_length=20, places=(2, 1, 0)),
    "ichimoku": ichimoku,
    "supertrend": supertrend,
    "psar": psar,
    "sar": sar,
    "rsi": pandas_ta("rsi", "close", length=14),
    "macd": pandas_ta("macd", "close", places=(0, 2, 1)),
    "stoch": pandas_ta("stoch", *PRICES, k=14, d=3, smooth_k=1),
    "willr": pandas_ta("willr", *PRICES, length=14),
    "cci": pandas_ta("cci", *PRICES, length=20),
    "adx": pandas_ta("adx", *PRICES, length=14, places=(0, 1, 2)),
    "aroon": pandas_ta("aroon", "high", "low", length=14, places=(1, 0)),
    "atr": pandas_ta("atr", *PRICES, length=14),
    "roc": pandas_ta("roc", "close", length=9),
    "volume": volume,
    "obv": obv,
    "vwap": pandas_ta("vwap", *PRICES, "volume", anchor="D"),
    "mfi": pandas_ta("mfi", *PRICES, "volume", length=14),
}


@pytest.mark.parametrize("name", SERIES)
def test_every_indicator_agrees_with_its_reference(name: str) -> None:
    """From a Monday on, and after the candles in which the first values still have a weight."""
    market = random_walk(4000, 8)
    monday = market._replace(open_times=market.open_times - 4 * DAY_MS)
    ours, theirs = compute(parse_spec(name), monday, M1), REFERENCES[name](monday)
    assert len(ours) == len(theirs)
    for (output, values), reference in zip(ours.items(), theirs, strict=True):
        assert not np.isnan(values[1500:-30]).any(), output
        assert almost_equal(values[1500:], reference[1500:]), output


HAND_COMPUTED = [
    ("sma:3", [1, 2, 6, 7], {"sma": [math.nan, math.nan, 3, 5]}),
    ("ema:3", [1, 2, 6, 7, 9], {"ema": [math.nan, math.nan, 3, 5, 7]}),  # a mean, then halves
    ("wma:3", [1, 2, 6], {"wma": [math.nan, math.nan, (1 + 4 + 18) / 6]}),
    ("bbands:2:2", [1, 3], {"upper": [math.nan, 4], "middle": [math.nan, 2], "lower": [math.nan, 0]}),
    ("rsi:2", [1, 2, 1, 3], {"rsi": [math.nan, math.nan, 50, 100 - 100 / (1 + 1.25 / 0.25)]}),
    ("roc:1", [4, 5], {"roc": [math.nan, 25]}),
    ("stoch:2:1:1", [1, 3, 2, 2], {"k": [math.nan, 100, 0, math.nan], "d": [math.nan, 100, 0, math.nan]}),
    ("willr:2", [1, 3, 2, 2], {"willr": [math.nan, 0, -100, math.nan]}),
    ("donchian:2", [1, 3, 2], {"upper": [math.nan, 3, 3], "middle": [math.nan, 2, 2.5], "lower": [math.nan, 1, 2]}),
    ("obv", [1, 3, 2, 2], {"obv": [0, 1, 0, 0]}),
    ("vwap", [1, 3, 2], {"vwap": [1, 2, 2]}),
    ("mfi:2", [1, 3, 2, 2, 2], {"mfi": [math.nan, math.nan, 60, 0, math.nan]}),
    ("aroon:2", [1, 3, 2], {"up": [math.nan, math.nan, 50], "down": [math.nan, math.nan, 0]}),
    ("atr:2", [1, 3, 2, 6], {"atr": [math.nan, math.nan, 1.5, 2.75]}),
    ("volume:2", [1, 3], {"volume": [1, 1], "average": [math.nan, 1]}),
]


@pytest.mark.parametrize(("text", "closes", "expected"), HAND_COMPUTED, ids=[row[0] for row in HAND_COMPUTED])
def test_values_match_figures_computed_by_hand(
    text: str, closes: list[float], expected: dict[str, list[float]]
) -> None:
    found = compute(parse_spec(text), flat(closes), M1)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert np.allclose(found[name], values, rtol=1e-12, equal_nan=True), (name, found[name])


def test_macd_starts_with_means_and_ichimokus_shift_counts_its_own_candle() -> None:
    closes = [1.0, 2, 6, 7, 9]
    macd = compute(parse_spec("macd:2:3:2"), flat(closes), M1)
    fast, slow = [4.0, 6.0, 8.0], [3.0, 5.0, 7.0]  # 2 / 3 and 1 / 2 of the new close, after means at the third
    assert np.allclose(macd["macd"][3:], np.subtract(fast, slow)[1:])
    cloud = compute(parse_spec("ichimoku:2:3:4:3"), flat([1, 2, 6, 7, 9, 9]), M1)
    assert cloud["conversion"].tolist()[1:3] == [1.5, 4]
    assert cloud["leading_a"].tolist()[4:] == [(4 + 3.5) / 2, (6.5 + 4.5) / 2]  # two candles on, of three
    assert cloud["lagging"].tolist()[:4] == [6, 7, 9, 9]


@pytest.mark.parametrize("text", ["ichimoku", "ichimoku:2:3:4:3", "ichimoku:9:26:52:500"])
@pytest.mark.parametrize("count", [1, 20, 60, 300])
def test_future_cloud_equals_the_outputs_once_its_candles_arrive(text: str, count: int) -> None:
    one, market = parse_spec(text), random_walk(1000, 9)
    shift = lookahead(one)
    cloud = future_values(one, market.slice(0, count))
    whole = compute(one, market, M1)
    assert list(cloud) == ["leading_a", "leading_b"]
    for output, values in cloud.items():
        assert len(values) == shift
        assert almost_equal(values, whole[output][count : count + shift]), output


def test_only_ichimoku_has_future_values() -> None:
    assert [name for name in CATALOG if future_values(parse_spec(name), random_walk(100, 1))] == ["ichimoku"]
    assert future_values(parse_spec("ichimoku"), random_walk(9, 1).slice(0, 0)) == {}


PSAR = """
0.2592 0.2589 0.2590  0.2592 0.2589 0.2592  0.2596 0.2592 0.2595  0.2599 0.2595 0.2599  0.2601 0.2598 0.2598
0.2602 0.2598 0.2601  0.2603 0.2599 0.2600  0.2603 0.2599 0.2603  0.2604 0.2600 0.2602  0.2604 0.2602 0.2603
0.2609 0.2596 0.2597  0.2603 0.2597 0.2602"""
"""High, low and close of ADAUSDT, 2 February 2023 from 14:15 UTC on: the price leaves the range at both ends, then
turns."""


def test_psar_matches_tradingview_and_sar_matches_talib() -> None:
    """A stop that has turned stays at the extreme of its candle until the two previous candles are above."""
    high, low, close = np.array(PSAR.split(), np.float64).reshape(-1, 3).T
    market = OhlcvColumns(MIDNIGHT + np.arange(12) * MINUTE_MS, close, high, low, close, close)
    ours, talibs = (compute(parse_spec(name), market, M1)[name] for name in ("psar", "sar"))
    assert almost_equal(ours, psar(market)[0])
    assert (ours[-1], talibs[-1]) == (0.2609, 0.2596)
    assert ours[1:5] == pytest.approx([0.2592, 0.2589, 0.2589, 0.25894], rel=1e-12)


def test_price_levels_match_figures_computed_by_hand() -> None:
    before, day = flat([10, 16, 4, *[7] * 1437], since=MIDNIGHT - DAY_MS), flat([8, 9])
    both = concat_columns([before, day])
    pivots = compute_levels(parse_spec("pivots"), both, M1)
    assert {level.name: level.price for level in pivots} == {
        **{"p": 9, "r1": 14, "r2": 21, "r3": 26},
        **{"s1": 2, "s2": -3, "s3": -10},
    }
    assert not any(level.details for level in pivots)
    assert compute_levels(parse_spec("pivots"), day, M1) == []
    holed = concat_columns([both.slice(0, 700), both.slice(710, 1442)])
    assert [level.details for level in compute_levels(parse_spec("pivots"), holed, M1)] == [{"missing": 10}] * 7
    ten_hours_missing = both.slice(600, 1442)
    assert compute_levels(parse_spec("pivots"), ten_hours_missing, M1) == []

    fall = {level.name: level.price for level in compute_levels(parse_spec("fib:5"), flat([50, 110, 60, 10, 30]), M1)}
    assert fall == pytest.approx(
        {"0": 10, "23.6": 33.6, "38.2": 48.2, "50": 60, "61.8": 71.8, "78.6": 88.6, "100": 110}
    )
    rise = {level.name: level.price for level in compute_levels(parse_spec("fib:2"), flat([500, 10, 110]), M1)}
    assert rise["61.8"] == pytest.approx(48.2)
    assert compute_levels(parse_spec("fib:2"), flat([5, 5]), M1) == []

    profile = compute_levels(parse_spec("vp:4:2"), flat([1, 1, 3, 2.5], [1, 2, 5, 4]), M1)
    assert [(level.name, level.price) for level in profile[:3]] == [
        ("poc", 2.5),
        ("value_area_high", 3),
        ("value_area_low", 2),
    ]
    assert [level.details["volume"] for level in profile[3:]] == [3, 9]
    one, five, two, eight = (np.array([number]) for number in (1.0, 5.0, 2.0, 8.0))
    wide = OhlcvColumns(np.array([MIDNIGHT]), one, five, one, two, eight)
    assert [level.details["volume"] for level in compute_levels(parse_spec("vp:2:4"), wide, M1)[3:]] == [2, 2, 2, 2]

    wave = flat([10, 20, 10, 20, 10, 20, 15] * 3)
    found = compute_levels(parse_spec("sr:21:1:0.5"), wave, M1)
    assert [(level.name, level.price) for level in found] == [("support", 10), ("resistance", 20)]
    assert found[1].details["touches"] == 9
    assert 99 < found[1].details["strength"] < 100
    assert compute_levels(parse_spec("sr"), flat([5] * 300), M1) == []


def days(since: str, until: str) -> OhlcvColumns:
    """Return a random walk of days from `since` until before `until`."""
    first, end = (int(pd.Timestamp(text).value) // 10**6 for text in (since, until))
    count = (end - first) // DAY_MS
    return random_walk(count, 7, timeframe="1d")._replace(open_times=first + np.arange(count) * DAY_MS)


def roll_up_days(market: OhlcvColumns, timeframe: str) -> OhlcvColumns:
    """Return the days rolled up into candles of a longer timeframe."""
    frame = TIMEFRAMES[timeframe]
    openings = np.array([frame.open_time(time) for time in market.open_times.tolist()])
    starts = np.flatnonzero(np.diff(openings, prepend=-1))
    ends = np.append(starts[1:], len(openings)) - 1
    high, low = np.maximum.reduceat(market.high, starts), np.minimum.reduceat(market.low, starts)
    volume = np.add.reduceat(market.volume, starts)
    return OhlcvColumns(openings[starts], market.open[starts], high, low, market.close[ends], volume)


def test_pivots_of_a_period_are_equal_in_all_timeframes() -> None:
    """A week can lie in two years, and three days in two months: these use candles of 1d."""
    market = days("2024-01-01", "2026-02-20")
    for ours, other in (("1w", "1M"), ("3d", "1d")):
        one, two = (
            compute_levels(parse_spec("pivots"), roll_up_days(market, name), TIMEFRAMES[name], market)
            for name in (ours, other)
        )
        assert one == two
        assert len(one) == 7
    last = market.open_times < int(pd.Timestamp("2026-01-01").value) // 10**6
    year = market.slice(366, int(last.sum()))  # 2025
    middle = (year.high.max() + year.low.min() + year.close[-1]) / 3
    assert {level.name: level.price for level in one}["p"] != pytest.approx(middle)
    (point,) = (
        level.price
        for level in compute_levels(parse_spec("pivots"), roll_up_days(market, "1w"), TIMEFRAMES["1w"], market)
        if level.name == "p"
    )
    assert point == pytest.approx(middle)
    weeks = roll_up_days(market, "1w")
    assert compute_levels(parse_spec("pivots"), weeks, TIMEFRAMES["1w"]) == []
    late = market.slice(400, len(market.open_times))
    assert compute_levels(parse_spec("pivots"), weeks, TIMEFRAMES["1w"], late) == []


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 30])
def test_too_few_candles_raise_no_error(name: str, count: int) -> None:
    few, one = random_walk(30, 3).slice(0, count), parse_spec(name)
    if CATALOG[name].has_levels:
        assert isinstance(compute_levels(one, few, M1), list)
    else:
        assert {len(values) for values in compute(one, few, M1).values()} == {count}
    assert 0 <= stable_from(one, few, M1) <= count


def spec_texts(known: Indicator) -> st.SearchStrategy[str]:
    """Draw specs with accepted parameters, periods up to 60."""

    def one(parameter: Parameter) -> st.SearchStrategy[float]:
        most = min(parameter.maximum, 60)
        return (
            st.integers(int(parameter.minimum), int(most)) if parameter.integer else st.floats(parameter.minimum, most)
        )

    words = st.tuples(*map(one, known.parameters))
    if known.ascending:
        words = words.filter(lambda values: values[0] < values[1])
    return words.map(lambda values: ":".join([known.name, *(f"{value:.3f}".removesuffix(".000") for value in values)]))


def window(one: IndicatorSpec, market: OhlcvColumns, timeframe: str, opening: int) -> OhlcvColumns:
    """Return the candles to load for the one at `opening`: its warm-up, or a multiple if that is not enough."""
    need = warmup(one, TIMEFRAMES[timeframe], int(market.open_times[opening]))
    for more in (1, 2, 4):
        part = market.slice(max(0, opening - more * need), len(market.open_times))
        if stable_from(one, part, TIMEFRAMES[timeframe]) <= more * need:
            break
    return part


@hypothesis(max_examples=150)
@given(data=st.data(), name=st.sampled_from(list(CATALOG)), seed=st.integers(0, 10**6))
def test_value_does_not_depend_on_where_the_window_starts(data: st.DataObject, name: str, seed: int) -> None:
    """Volatile, quiet and rarely traded markets, with jumps, in several timeframes."""
    one = parse_spec(data.draw(spec_texts(CATALOG[name])))
    timeframe = data.draw(st.sampled_from(["1m", "15m", "1h", "1d"]))
    market = random_walk(
        9000, seed, data.draw(st.sampled_from([0.0005, 0.003, 0.02])), data.draw(st.sampled_from([0, 0.5])), timeframe
    )
    opening = data.draw(st.integers(5000, 8900))
    if CATALOG[name].has_levels:
        market = market.slice(0, opening + 1)
        part = window(one, market, timeframe, opening)
        whole, few = (compute_levels(one, each, TIMEFRAMES[timeframe]) for each in (market, part))
        assert [level.name for level in whole] == [level.name for level in few]
        assert np.allclose([level.price for level in whole], [level.price for level in few], rtol=1e-9)
        return
    part = window(one, market, timeframe, opening)
    trusted = len(market.open_times) - len(part.open_times) + stable_from(one, part, TIMEFRAMES[timeframe])
    since = max(opening, trusted)
    found = compute(one, part, TIMEFRAMES[timeframe])
    for output, values in compute(one, market, TIMEFRAMES[timeframe]).items():
        count, scale = len(values) - since, np.nanmax(np.abs(values), initial=0)
        ours, theirs = found[output][len(part.open_times) - count :], values[since:]
        assert np.allclose(ours, theirs, rtol=1e-9, atol=1e-9 * scale, equal_nan=True), (str(one), output)


@pytest.mark.parametrize("name", SERIES)
def test_value_depends_on_no_later_candle_beyond_its_lookahead(name: str) -> None:
    market, one = random_walk(2000, 11), parse_spec(name)
    whole, part = compute(one, market, M1), compute(one, market.slice(0, 1500 + lookahead(one)), M1)
    for output, values in whole.items():
        assert almost_equal(part[output][:1500], values[:1500])


def test_outputs_scale_with_price_and_volume() -> None:
    """Some coins cost a millionth of a cent."""
    market = random_walk(3000, 5)
    for price, amount in ((2.0**-40, 1.0), (2.0**20, 1.0), (1.0, 2.0**-30), (1.0, 2.0**30)):
        time, o, h, low, c, v = market
        scaled = OhlcvColumns(time, o * price, h * price, low * price, c * price, v * amount)
        for name in SERIES:
            found = compute(parse_spec(name), scaled, M1)
            for output, values in compute(parse_spec(name), market, M1).items():
                ours = found[output][1500:]
                assert any(almost_equal(ours, values[1500:] * factor) for factor in (1.0, price, amount)), (
                    name,
                    output,
                )


def test_vwap_and_obv_start_at_their_anchor() -> None:
    hours = random_walk(3000, 5, timeframe="1h")
    days = hours.open_times // DAY_MS
    vwap = compute(parse_spec("vwap"), hours, TIMEFRAMES["1h"])["vwap"]
    for place in np.flatnonzero(np.diff(days)) + 1:
        assert vwap[place] == pytest.approx((hours.high[place] + hours.low[place] + hours.close[place]) / 3)
    for timeframe, since in (("1m", "2027-01-11"), ("15m", "2027-01-01"), ("1h", "2027-01-01")):
        opening = MIDNIGHT + DAY_MS // 2  # Friday, 15 January 2027
        count = warmup(parse_spec("obv"), TIMEFRAMES[timeframe], opening)
        first = TIMEFRAMES[timeframe].step_back(opening, count - 1)
        assert pd.Timestamp(first, unit="ms").isoformat() == f"{since}T00:00:00", timeframe
    everything = warmup(parse_spec("obv"), TIMEFRAMES["1d"], MIDNIGHT)
    assert TIMEFRAMES["1d"].step_back(MIDNIGHT, everything - 1) <= EARLIEST_CANDLE_MS


UNDEFINED_WHEN_FLAT = {  # outputs without a value in a market without movement and trades
    "rsi": ["rsi"],
    "stoch": ["k", "d"],
    "willr": ["willr"],
    "cci": ["cci"],
    "adx": ["adx", "plus_di", "minus_di"],
    "aroon": ["up", "down"],
    "mfi": ["mfi"],
    "vwap": ["vwap"],
}
ZERO_WHEN_FLAT = {"macd", "atr", "roc", "volume", "obv"}


@pytest.mark.parametrize("name", SERIES)
def test_output_is_null_price_or_zero_in_a_market_without_movement(name: str) -> None:
    """No value of such a market may look like a signal."""
    found = compute(parse_spec(name), flat([5.0] * 1500, [0.0] * 1500), M1)
    for output, values in found.items():
        rest = values[1000:-30]
        if output in UNDEFINED_WHEN_FLAT.get(name, ()):
            assert np.isnan(values).all(), output
        elif output != "direction":
            assert (rest == (0.0 if name in ZERO_WHEN_FLAT else 5.0)).all(), output


@pytest.mark.parametrize("name", [name for name, known in CATALOG.items() if known.has_levels])
def test_market_without_movement_has_only_pivots_at_its_price(name: str) -> None:
    found = compute_levels(parse_spec(name), flat([5.0] * 4000, [0.0] * 4000), M1)
    assert {level.price for level in found} == ({5.0} if name == "pivots" else set())


@pytest.mark.parametrize("name", UNDEFINED_WHEN_FLAT)
@pytest.mark.parametrize("price", [1.0, 2.0**-30])
def test_output_is_null_once_the_last_movement_has_no_weight(name: str, price: float) -> None:
    """Values return once the price moves again."""
    before, count = random_walk(300, 4), 1500
    still = flat([float(before.close[-1])] * count, [0.0] * count, int(before.open_times[-1]) + MINUTE_MS)
    after = random_walk(1200, 5)
    after = after._replace(open_times=after.open_times + int(still.open_times[-1]) + MINUTE_MS - MIDNIGHT)
    whole = concat_columns([before, still, after])
    o, h, low, c = (column * price for column in whole[1:5])
    whole = OhlcvColumns(whole.open_times, o, h, low, c, whole.volume)
    found = compute(parse_spec(name), whole, M1)
    for output in UNDEFINED_WHEN_FLAT[name]:
        values = found[output]
        assert not np.isnan(values[100:300]).any(), output
        if name != "vwap":  # which still has the day's trades
            assert np.isnan(values[800:1790]).all(), output
        assert not np.isnan(values[1900:]).any(), output


def test_adx_starts_again_after_a_long_time_without_movement() -> None:
    """A window that starts within that time has the same values."""
    quiet = flat([float(random_walk(300, 4).close[-1])] * 700, since=MIDNIGHT + 300 * MINUTE_MS)
    after = random_walk(200, 5)
    after = after._replace(open_times=after.open_times + 1000 * MINUTE_MS)
    whole = concat_columns([random_walk(300, 4), quiet, after])
    longer = compute(parse_spec("adx"), whole, M1)
    shorter = compute(parse_spec("adx"), whole.slice(400, 1200), M1)
    for output, values in longer.items():
        assert almost_equal(shorter[output][500:], values[900:]), output
        assert not np.isnan(values[1030:]).any(), output


def test_aroon_of_a_side_needs_only_that_side_to_move() -> None:
    rising = flat([1.0] * 20)._replace(high=np.arange(2.0, 22.0))
    found = compute(parse_spec("aroon:5"), rising, M1)
    assert np.isnan(found["down"]).all()
    assert (found["up"][5:] == 100).all()


def test_candles_convert_to_columns() -> None:
    series = Series("binance", Instrument("BTC", "USDT"), "1m")
    o, h, low, c, volume, quote = (Decimal(text) for text in ("1.5", "2", "0.5", "1.25", "10.5", "12"))
    found = to_columns([Candle(series, Bar(MIDNIGHT, o, h, low, c, volume, quote, 3), True, CandleSource.EXCHANGE)])
    assert [column.tolist() for column in found] == [[MIDNIGHT], [1.5], [2], [0.5], [1.25], [10.5]]
    assert len(to_columns([]).close) == 0


def test_specs_are_parsed_with_defaults_and_without_repeats() -> None:
    text = "sma:20, EMA:12,macd,bbands::2.5,macd:12:26:9,psar:0.02"
    assert [str(one) for one in parse_specs(text)] == [
        "sma:20",
        "ema:12",
        "macd:12:26:9",
        "bbands:20:2.5",
        "psar:0.02:0.2",
    ]
    assert parse_specs(",".join(map(str, STANDARD))) == STANDARD
    assert parse_spec("keltner").params_by_name == {"period": 20, "factor": 2, "atr": 10}


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("", BadRequest, "write indicators=sma:20,rsi"),
        (",,", BadRequest, "indicators is missing"),
        ("smaa", UnknownName, "did you mean sma"),
        ("sma:1", BadRange, "period is 1, write 2 to 500"),
        ("sma:501", BadRange, "write 2 to 500"),
        ("sma:" + "9" * 500, BadRequest, "is not a whole number"),
        ("sma:2.5", BadRequest, "period is '2.5', which is not a whole number: write 2 to 500"),
        ("sma:-3", BadRequest, "not a whole number"),
        ("sma:٣", BadRequest, "not a whole number"),
        ("bbands:20:nan", BadRequest, "factor is 'nan', which is not a number: write 0.1 to 20"),
        ("bbands:20:1e2", BadRequest, "not a number"),
        ("sma:20:3", BadRequest, "has 2 parameters, write sma:period, for example sma:20"),
        ("obv:3", BadRequest, "has 1 parameters, obv takes none"),
        ("macd:26:12", BadRange, "fast must be less than slow"),
        (",".join(f"sma:{period}" for period in range(2, 60)), BadRange, "at most 50"),
    ],
)
def test_wrong_spec_raises_an_error_that_says_what_is_accepted(text: str, error: type[KursError], part: str) -> None:
    with pytest.raises(error) as raised:
        parse_specs(text)
    assert part in str(raised.value)


def test_catalog_entry_has_title_formula_source_and_a_reference() -> None:
    assert {name for name, known in CATALOG.items() if not known.has_levels} == set(REFERENCES)
    for name, known in CATALOG.items():
        assert known.title, name
        assert known.formula, name
        assert known.source, name
        for parameter in known.parameters:
            assert parameter.minimum <= parameter.default <= parameter.maximum


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("services.collector", {"numpy", "pandas", "talib", "pandas_ta_classic"}),
        ("services.pricer", {"numpy", "pandas", "talib", "pandas_ta_classic"}),
        ("services.writer", {"numpy", "pandas", "talib", "pandas_ta_classic"}),
        ("services.command_line", {"pandas", "talib", "pandas_ta_classic"}),
        ("services.core.indicators", {"pandas", "pandas_ta_classic"}),
    ],
)
def test_modules_without_indicators_do_not_load_their_libraries(module: str, without: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603
    assert not without & set(loaded.stdout.split())
