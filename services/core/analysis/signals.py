"""Signals: matches of rules at one closed candle."""

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from services.core.analysis import Side, Signal
from services.core.analysis.candle_view import EQUALITY_TOLERANCE, CandleView, round_significant

OVERSOLD_RSI, OVERBOUGHT_RSI = 30, 70
LOW_STOCHASTIC, HIGH_STOCHASTIC = 20, 80
BREAKOUT_VOLUME_RATIO = 1.5  # of the mean volume
LEVEL_TOUCH_ATRS = 0.25  # within which a level counts as touched
MIN_TOUCHES = 2  # of a level that a price bounces off


class SignalMatch(NamedTuple):
    """A match of a rule with its inputs."""

    side: Side
    inputs: Mapping[str, float]
    reason: str


class SignalRule(NamedTuple):
    """A rule that returns a match or None."""

    name: str
    text: str
    run: Callable[[CandleView], SignalMatch | None]


RULES: list[SignalRule] = []


def signal(run: Callable[[CandleView], SignalMatch | None]) -> Callable[[CandleView], SignalMatch | None]:
    """Register a function as a rule. Its docstring is the text of the rule. No comparison with NaN is true, so a rule
    without inputs has no match.
    """
    RULES.append(SignalRule(run.__name__, inspect.cleandoc(run.__doc__ or ""), run))
    return run


def find_signals(view: CandleView) -> list[Signal]:
    """Return the signals of all rules."""
    open_time = int(view.indicators.columns.open_times[view.candle_index])
    close = round_significant(view.bar("close"))
    signals = []
    for rule in RULES:
        if match := rule.run(view):
            inputs = {name: round_significant(value) for name, value in match.inputs.items()}
            signals.append(Signal(rule.name, match.side, open_time, close, inputs, match.reason))
    return signals


def _crossing_side(view: CandleView, line: tuple[str, str], other: tuple[str, str]) -> Side | None:
    """Return the side on which one line crossed another at this candle."""
    before = view.sign(view.value(*line, 1) - view.value(*other, 1))
    now = view.sign(view.value(*line) - view.value(*other))
    if before <= 0 < now:
        return Side.BUY
    return Side.SELL if before >= 0 > now else None


def _crossing_match(
    view: CandleView, line: tuple[str, str], other: tuple[str, str], names: tuple[str, str]
) -> SignalMatch | None:
    side = _crossing_side(view, line, other)
    if side is None:
        return None
    inputs = {names[0]: view.value(*line), names[1]: view.value(*other)}
    return SignalMatch(side, inputs, f"{names[0]} crossed {names[1]} {'upwards' if side is Side.BUY else 'downwards'}")


def _without_noise(difference: float) -> float:
    """Return a difference of percents, 0 if it is a rounding error."""
    return 0.0 if abs(difference) <= 100 * EQUALITY_TOLERANCE else difference


@signal
def average_cross(view: CandleView) -> SignalMatch | None:
    """Buy when the 50-candle average crosses the 200-candle one upwards, sell when downwards."""
    return _crossing_match(view, ("sma:50", "sma"), ("sma:200", "sma"), ("sma50", "sma200"))


@signal
def ema_cross(view: CandleView) -> SignalMatch | None:
    """Buy when the 12-candle exponential average crosses the 26-candle one upwards, sell when downwards."""
    return _crossing_match(view, ("ema:12", "ema"), ("ema:26", "ema"), ("ema12", "ema26"))


@signal
def macd_cross(view: CandleView) -> SignalMatch | None:
    """Buy when MACD (12, 26) crosses its 9-candle signal line upwards, sell when downwards."""
    return _crossing_match(view, ("macd", "macd"), ("macd", "signal"), ("macd", "signal"))


@signal
def rsi_return(view: CandleView) -> SignalMatch | None:
    """Buy when RSI 14 returns to 30 or more from below, sell when it returns to 70 or less from above."""
    before, now = view.value("rsi", back=1), view.value("rsi")
    inputs = {"rsi": now, "rsi_before": before}
    if before < OVERSOLD_RSI <= now:
        return SignalMatch(Side.BUY, inputs, f"RSI returned from {before:.0f} to {now:.0f} and is no longer oversold")
    if before > OVERBOUGHT_RSI >= now:
        return SignalMatch(
            Side.SELL, inputs, f"RSI returned from {before:.0f} to {now:.0f} and is no longer overbought"
        )
    return None


@signal
def stochastic_cross(view: CandleView) -> SignalMatch | None:
    """Buy when the stochastic's %K crosses %D upwards with %D below 20, sell when downwards with %D above 80."""
    before, now = (_without_noise(view.value("stoch", "k", back) - view.value("stoch", "d", back)) for back in (1, 0))
    d = view.value("stoch", "d")
    inputs = {"k": view.value("stoch", "k"), "d": d}
    if before <= 0 < now and d < LOW_STOCHASTIC:
        return SignalMatch(Side.BUY, inputs, f"%K crossed %D upwards at {d:.0f}")
    if before >= 0 > now and d > HIGH_STOCHASTIC:
        return SignalMatch(Side.SELL, inputs, f"%K crossed %D downwards at {d:.0f}")
    return None


@signal
def band_return(view: CandleView) -> SignalMatch | None:
    """Buy when the close returns above the lower Bollinger band (20, 2), sell when it returns below the upper one."""
    close, before = view.bar("close"), view.bar("close", 1)
    lower, upper = view.value("bbands", "lower"), view.value("bbands", "upper")
    inputs = {"close": close, "lower": lower, "upper": upper}
    if view.previous().sign(before - view.value("bbands", "lower", 1)) < 0 <= view.sign(close - lower):
        return SignalMatch(Side.BUY, inputs, "the close returned into the Bollinger bands from below")
    if view.previous().sign(before - view.value("bbands", "upper", 1)) > 0 >= view.sign(close - upper):
        return SignalMatch(Side.SELL, inputs, "the close returned into the Bollinger bands from above")
    return None


@signal
def breakout(view: CandleView) -> SignalMatch | None:
    """Buy when the close is above the highest high of the 20 candles before, sell when below their lowest low; each
    with at least 1.5 times the mean volume of the last 20 candles."""
    close, volume, mean = view.bar("close"), view.bar("volume"), view.value("volume:20", "average")
    high, low = view.value("donchian:20", "upper", 1), view.value("donchian:20", "lower", 1)
    if not volume >= BREAKOUT_VOLUME_RATIO * mean or not mean:
        return None
    inputs = {"close": close, "high": high, "low": low, "volume": volume, "volume_mean": mean}
    ratio = f"with {volume / mean:.1f} times the mean volume"
    if close > high:
        return SignalMatch(Side.BUY, inputs, f"the close broke above the high of the 20 candles before, {ratio}")
    if close < low:
        return SignalMatch(Side.SELL, inputs, f"the close broke below the low of the 20 candles before, {ratio}")
    return None


@signal
def bounce(view: CandleView) -> SignalMatch | None:
    """Buy when a candle opens above a support of at least two touches, comes within 0.25 mean true ranges of it or
    below, and closes above it in the upper half of its range. Sell in the same way below a resistance. The levels are
    those of the candle before."""
    opened, high, low, close = (view.bar(name) for name in ("open", "high", "low", "close"))
    near, upper = LEVEL_TOUCH_ATRS * view.atr_or_step(1), close - low > high - close
    for level in view.previous().levels("sr") if near > 0 and high > low else ():
        price = f"{round_significant(level.price):g}"
        inputs = {"level": level.price, "touches": level.details["touches"], "low": low, "high": high, "close": close}
        if level.details["touches"] < MIN_TOUCHES:
            continue
        if opened > level.price < close and low <= level.price + near and upper:
            return SignalMatch(Side.BUY, inputs, f"the price turned upwards at the support of {price}")
        if opened < level.price > close and high >= level.price - near and not upper:
            return SignalMatch(Side.SELL, inputs, f"the price turned downwards at the resistance of {price}")
    return None
