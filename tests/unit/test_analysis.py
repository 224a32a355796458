"""The rules of the analysis on constructed markets, and that an analysis depends on nothing but the candles."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.core.analysis import DISCLAIMER, Analysis, Side, TrendDirection
from services.core.analysis import notes as warnings
from services.core.analysis import signals as seen
from services.core.analysis import trend as votes
from services.core.analysis.analysing import MIN_TREND_CANDLES, REQUIREMENTS, SIGNAL_CANDLES, analyse, analyse_since
from services.core.analysis.blocks import blocks, first_needed
from services.core.analysis.multi_timeframe import DEFAULT_TIMEFRAMES, TIMEFRAME_WEIGHTS, combine_trends
from services.core.analysis.summary import summary_text
from services.core.indicators import OhlcvColumns, concat_columns
from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES

SERIES = Series("binance", Instrument("BTC", "USDT"), "1h")
HOUR = 3_600_000
LAST = 1_795_698_000_000 // HOUR * HOUR
PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()
X = np.arange(1500)


def columns_of(closes: "np.typing.ArrayLike", noise: float = 0.5, volume: float = 1, seed: int = 1) -> OhlcvColumns:
    """Candles that open at the last close, with wicks of up to `noise`."""
    random, close = np.random.default_rng(seed), np.asarray(closes, float)
    close = close + random.normal(0, noise, len(close)) if noise else close
    opened = np.r_[close[0], close[:-1]]
    wicks = random.uniform(0.1, 1, (2, len(close))) * noise
    high, low = np.maximum(opened, close) + wicks[0], np.minimum(opened, close) - wicks[1]
    time = LAST - HOUR * np.arange(len(close) - 1, -1, -1)
    return OhlcvColumns(time, opened, high, low, close, np.full(len(close), volume, float))


def with_bar(columns: OhlcvColumns, index: int, **changes: float) -> OhlcvColumns:
    """Return columns with one candle changed."""
    changed = columns._replace(**{name: getattr(columns, name).copy() for name in changes})
    for name, value in changes.items():
        getattr(changed, name)[index] = value
    return changed


RISE, FALL = columns_of(1000 + X * 0.4), columns_of(3000 - X * 0.4)
RANGE = columns_of(1000 + 10 * np.sin(X / 20 * 2 * np.pi))
FLAT = columns_of(np.full(300, 100.1), noise=0)


@pytest.mark.parametrize(("columns", "direction"), [(RISE, TrendDirection.UP), (FALL, TrendDirection.DOWN)])
def test_steady_movement_is_a_strong_trend(columns: OhlcvColumns, direction: TrendDirection) -> None:
    found = analyse(SERIES, columns)
    assert (found.trend.direction, found.notes) == (direction, ())
    assert found.trend.strength >= 70
    assert {vote.rule for vote in found.trend.votes} == {rule.name for rule in votes.RULES}
    assert all(vote.value > 0 for vote in found.trend.votes) == (direction is TrendDirection.UP)
    assert direction.value in summary_text(found)


def test_range_has_levels_at_its_bounds_and_is_mostly_sideways() -> None:
    for found in analyse_since(SERIES, RANGE, LAST - 40 * HOUR):  # two whole swings
        assert found.trend.strength < 50
        if found.support_levels and found.resistance_levels and found.close and 995 < found.close < 1005:
            assert abs(found.support_levels[0].price - 990) < 2
            assert abs(found.resistance_levels[0].price - 1010) < 2
            assert max(found.support_levels[0].touches, found.support_levels[-1].touches) >= 5
    ways = [found.trend.direction for found in analyse_since(SERIES, RANGE, LAST - 40 * HOUR)]
    assert ways.count(TrendDirection.SIDEWAYS) > len(ways) / 2


def test_reversal_turns_the_trend_and_gives_signals() -> None:
    turn = np.r_[1000 + X[:1440] * 0.4, 1000 + 1440 * 0.4 - np.arange(1, 61) * 0.6]
    found = list(analyse_since(SERIES, columns_of(turn), LAST - 80 * HOUR))
    assert found[0].trend.direction is TrendDirection.UP
    assert found[-1].trend.direction is TrendDirection.DOWN
    at_turn = {signal.rule for each in found[20:50] for signal in each.signals if signal.side is Side.SELL}
    assert {"ema_cross", "macd_cross"} <= at_turn


def test_flat_market_has_no_trend_signals_or_levels() -> None:
    found = analyse(SERIES, FLAT)
    assert (found.trend.direction, found.trend.strength, found.signals) == (TrendDirection.SIDEWAYS, 0, ())
    assert (found.support_levels, found.resistance_levels, found.fibonacci_levels) == ((), (), ())
    assert found.volatility
    assert (found.volatility.atr, found.volatility.state) == (0, "low")
    assert "has not moved" in found.notes[0]


def stopped_market(seed: int, still: int, digits: int = 2, blip: int = 0) -> OhlcvColumns:
    """A random walk, then `still` candles without movement, except one step up and back at `blip`."""
    random = np.random.default_rng(seed)
    close = np.round(100 + np.cumsum(random.normal(0, 0.2, 1600 - still)), digits)
    close = np.r_[close, np.full(still, close[-1])]
    if blip:
        close[-blip] = np.round(close[-1] + 10.0**-digits, digits)
    opened = np.r_[close[0], close[:-1]]
    time = LAST - HOUR * np.arange(len(close) - 1, -1, -1)
    return OhlcvColumns(time, opened, np.maximum(opened, close), np.minimum(opened, close), close, np.ones(len(close)))


STOPPED_MARKETS = st.builds(stopped_market, st.integers(0, 10**6), st.integers(60, 900), st.sampled_from([1, 2, 4, 8]))


@settings(max_examples=100)
@given(columns=STOPPED_MARKETS)
def test_market_that_stopped_is_sideways(columns: OhlcvColumns) -> None:
    """Averages still move after the price has stopped, by ever smaller parts of a step. That is no trend."""
    found = analyse(SERIES, columns)
    assert (found.trend.direction, found.trend.strength) == (TrendDirection.SIDEWAYS, 0)
    assert all(abs(vote.value) == 0 for vote in found.trend.votes)
    assert found.volatility
    assert found.volatility.atr == 0 or found.volatility.atr >= 1e-11
    assert not [text for text in found.notes if "spike" in text or "a gap" in text]


@settings(max_examples=100)
@given(
    columns=st.builds(
        stopped_market, st.integers(0, 10**6), st.integers(60, 900), st.sampled_from([2, 4]), st.integers(41, 59)
    )
)
def test_single_step_up_and_back_is_no_trend(columns: OhlcvColumns) -> None:
    """By then the mean true range is smaller than a step."""
    assert analyse(SERIES, columns).trend.direction is TrendDirection.SIDEWAYS


def test_first_move_after_a_standstill_is_measured_in_steps() -> None:
    """The mean true range of a market without movement is tiny."""
    still = stopped_market(1, 700)
    moved = with_bar(still, -1, close=float(still.close[-1]) + 0.05, high=float(still.close[-1]) + 0.05)
    assert "a spike of 0.05, 5.0 mean true ranges, at the newest candle" in analyse(SERIES, moved).notes


def test_spike_is_noted_and_turns_no_trend() -> None:
    high = float(RISE.high[-3]) + 40
    found = analyse(SERIES, with_bar(RISE, -3, high=high))
    assert "spike" in " ".join(found.notes)
    assert "2 candles before the newest" in " ".join(found.notes)
    assert found.trend.direction is TrendDirection.UP


def test_price_gap_and_missing_candles_are_noted() -> None:
    opened = float(RISE.close[-2]) - 12
    jumped = with_bar(RISE, -1, open=opened, low=opened - 1, close=opened, high=opened + 1)
    assert "a gap of -1" in " ".join(analyse(SERIES, jumped).notes)
    holed = concat_columns([RISE.slice(0, 1450), RISE.slice(1456, 1500)])
    assert analyse(SERIES, holed).notes == ("6 candles are missing among the last 206",)


def test_too_few_candles_are_noted_and_have_no_trend() -> None:
    nothing = analyse(SERIES, RISE.slice(0, 0))
    assert (nothing.open_time, nothing.candles, nothing.trend.direction) == (None, 0, TrendDirection.UNKNOWN)
    assert "no closed candle" in summary_text(nothing)
    for count in (1, 2, 15, MIN_TREND_CANDLES - 1):
        few = analyse(SERIES, RISE.slice(1500 - count, 1500))
        assert (few.trend.direction, few.trend.strength, few.candles) == (TrendDirection.UNKNOWN, 0, count)
        assert f"only {count} closed candles" in few.notes[0]
    assert analyse(SERIES, RISE.slice(1500 - MIN_TREND_CANDLES, 1500)).trend.direction is TrendDirection.UP


def last_signals(columns: OhlcvColumns) -> dict[str, Side]:
    return {found.rule: found.side for found in analyse(SERIES, columns).signals if found.timestamp == LAST}


def mirrored(columns: OhlcvColumns) -> OhlcvColumns:
    """Return the market with each price p replaced by 2,000 - p."""
    return OhlcvColumns(
        columns.open_times,
        2000 - columns.open,
        2000 - columns.low,
        2000 - columns.high,
        2000 - columns.close,
        columns.volume,
    )


def first_signal(rule: str, closes: "np.typing.ArrayLike", noise: float = 0.02) -> OhlcvColumns:
    """Return the market up to the first candle at which a rule matches."""
    columns = columns_of(closes, noise)
    for end in range(1000, len(columns.open_times) + 1):
        part = columns.slice(0, end)
        shifted = part._replace(open_times=LAST - HOUR * np.arange(end - 1, -1, -1))
        if rule in last_signals(shifted):
            return shifted
    raise AssertionError(f"{rule} matches nowhere")


LONG_TURN = np.r_[1100 - np.arange(1000) * 0.1, 1000 + np.arange(200) * 0.5]
DIP = np.r_[np.full(990, 1000.0) + np.tile([0.3, -0.3], 495), 1000 - np.arange(1, 16) * 2.0, 970 + np.arange(1, 12) * 2]
BOUNCES = np.r_[1000 + 10 * np.sin(X[:1200] / 30 * 2 * np.pi)]


@pytest.mark.parametrize(
    ("rule", "closes"),
    [
        ("average_cross", LONG_TURN),
        ("ema_cross", LONG_TURN),
        ("macd_cross", LONG_TURN),
        ("rsi_return", DIP),
        ("stochastic_cross", DIP),
        ("band_return", DIP),
        ("bounce", BOUNCES),
    ],
)
def test_rule_matches_opposite_sides_in_a_market_and_its_mirror(rule: str, closes: np.ndarray) -> None:
    market = first_signal(rule, closes)
    side = last_signals(market)[rule]
    other = last_signals(mirrored(market))[rule]
    assert {side, other} == {Side.BUY, Side.SELL}
    if rule != "bounce":
        assert side is Side.BUY


def test_breakout_needs_volume() -> None:
    quiet = columns_of(np.full(1200, 1000.0), noise=0.3)
    out = with_bar(quiet, -1, close=1010.0, high=1011.0)
    assert "breakout" not in last_signals(out)
    loud = with_bar(out, -1, volume=2.0)
    assert last_signals(loud)["breakout"] is Side.BUY
    assert last_signals(mirrored(loud))["breakout"] is Side.SELL


def test_signal_has_reason_inputs_and_time() -> None:
    (found,) = [each for each in analyse(SERIES, first_signal("rsi_return", DIP)).signals if each.rule == "rsi_return"]
    assert found.timestamp == LAST
    assert found.inputs["rsi_before"] < 30 <= found.inputs["rsi"]
    assert "RSI returned" in found.reason


random_walks = st.builds(
    lambda seed, jumps: columns_of(
        1000 + np.cumsum(np.random.default_rng(seed).normal(0, jumps, 6000)), jumps, seed=seed
    ),
    st.integers(0, 2**32),
    st.sampled_from([0.001, 0.5, 5]),
)


@settings(max_examples=20)
@given(columns=random_walks, timeframe=st.sampled_from(["1m", "1h", "4h", "1d"]), start=st.integers(0, 500))
def test_analysis_depends_on_nothing_but_the_candles(columns: OhlcvColumns, timeframe: str, start: int) -> None:
    """The first loaded candle, other analyses and later candles change no digit."""
    frame, series = TIMEFRAMES[timeframe], SERIES._replace(timeframe=timeframe)
    last = frame.open_time(LAST)
    time = np.array(list(frame.open_times(frame.step_back(last, len(columns.open_times) - 1), last)))
    columns = columns._replace(open_times=time)
    many = {each.open_time: each for each in analyse_since(series, columns, int(time[-60]))}
    assert list(many) == time[-60:].tolist()
    place = len(time) - 1 - start % 60
    alone = analyse(series, columns.slice(0, place + 1))
    assert many[alone.open_time] == alone
    first = int(np.searchsorted(time, first_needed(REQUIREMENTS, frame, int(time[place]))))
    assert analyse(series, columns.slice(max(0, first - start), place + 1)) == alone
    assert msgspec.json.decode(msgspec.json.encode(alone), type=Analysis) == alone
    assert [signal.timestamp for signal in alone.signals] == sorted(
        (signal.timestamp for signal in alone.signals), reverse=True
    )
    oldest = time[place - SIGNAL_CANDLES + 1]
    assert all(signal.timestamp >= oldest for signal in alone.signals)


def test_blocks_contain_each_candle_once_with_its_lookback() -> None:
    frame = TIMEFRAMES["1h"]
    since = int(RISE.open_times[-250])
    openings = list[int]()
    for part in blocks(REQUIREMENTS, frame, RISE, since):
        mine = part.columns.open_times[part.first : part.end].tolist()
        assert part.columns.open_times[0] <= max(first_needed(REQUIREMENTS, frame, mine[0]), RISE.open_times[0])
        openings += mine
    assert openings == RISE.open_times[-250:].tolist()


def test_combined_trend_weighs_longer_timeframes_more() -> None:
    assert list(TIMEFRAME_WEIGHTS) == list(TIMEFRAMES)
    assert sorted(TIMEFRAME_WEIGHTS.values()) == list(TIMEFRAME_WEIGHTS.values())
    up, down, unknown = analyse(SERIES, RISE), analyse(SERIES, FALL), analyse(SERIES, RISE.slice(0, 9))
    hour, day = (TIMEFRAME_WEIGHTS[name] for name in ("1h", "1d"))
    found = combine_trends([up, replace(down, series=SERIES._replace(timeframe="1d")), unknown])
    score = (hour * up.trend.strength - day * down.trend.strength) / (hour + day)
    assert (found.strength, found.direction) == (abs(round(score)), votes.trend_direction(round(score)))
    agree = combine_trends([up, up])
    assert (agree.direction, agree.strength, agree.agreement) == (TrendDirection.UP, up.trend.strength, 100)
    assert combine_trends([unknown]).direction is TrendDirection.UNKNOWN
    assert set(DEFAULT_TIMEFRAMES) <= set(TIMEFRAME_WEIGHTS)


def test_docs_quote_every_rule() -> None:
    page = re.sub(r"\s+", " ", PAGE)
    rules = [(rule.name, rule.text) for rules in (votes.RULES, seen.RULES, warnings.RULES) for rule in rules]
    for name, words in rules:
        assert f"`{name}`" in page
        assert re.sub(r"\s+", " ", words) in page, f"{name}: write its docstring into docs/analysis.md"
    for rule in votes.RULES:
        assert f"| `{rule.name}` | {rule.weight} |" in page
    for timeframe, weight in TIMEFRAME_WEIGHTS.items():
        assert re.search(rf"\| [^|]*\b{timeframe}\b[^|]* \| {weight} \|", page)
    assert DISCLAIMER in page
