"""Signals: what rules see at one closed candle."""

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from services.core.analysis import Side, Signal
from services.core.analysis.candle_view import EQUAL, At, rounded

OVERSOLD, OVERBOUGHT = 30, 70  # of the relative strength index
LOW, HIGH = 20, 80  # of the stochastic
BUSY = 1.5  # times the mean volume
NEAR = 0.25  # mean true ranges within which a level is touched
TOUCHED = 2  # turns that make a level


class Seen(NamedTuple):
    """What a rule sees, and from what."""

    side: Side
    inputs: Mapping[str, float]
    reason: str


class Rule(NamedTuple):
    """A rule that may see a signal."""

    name: str
    text: str
    run: Callable[[At], Seen | None]


RULES: list[Rule] = []


def signal(run: Callable[[At], Seen | None]) -> Callable[[At], Seen | None]:
    """Let a function look for signals; its docstring is the rule. Where an input is NaN no comparison holds."""
    RULES.append(Rule(run.__name__, inspect.cleandoc(run.__doc__ or ""), run))
    return run


def signals(at: At) -> list[Signal]:
    """All signals at a candle."""
    time, close = int(at.market.columns.time[at.place]), at.bar("close")
    seen = [(rule.name, found) for rule in RULES if (found := rule.run(at))]
    return [
        Signal(name, side, time, rounded(close), {key: rounded(value) for key, value in inputs.items()}, reason)
        for name, (side, inputs, reason) in seen
    ]


def _crossing(at: At, one: tuple[str, str], other: tuple[str, str]) -> Side | None:
    """Whether one line crossed another with this candle."""
    before = at.sign(at(*one, 1) - at(*other, 1))
    now = at.sign(at(*one) - at(*other))
    if before <= 0 < now:
        return Side.BUY
    return Side.SELL if before >= 0 > now else None


def _crossed(at: At, one: tuple[str, str], other: tuple[str, str], names: tuple[str, str]) -> Seen | None:
    side = _crossing(at, one, other)
    if side is None:
        return None
    inputs = {names[0]: at(*one), names[1]: at(*other)}
    return Seen(side, inputs, f"{names[0]} crossed {names[1]} {'upwards' if side is Side.BUY else 'downwards'}")


def _percent(difference: float) -> float:
    """A difference of percents, 0 where only arithmetic made it."""
    return 0.0 if abs(difference) <= 100 * EQUAL else difference


@signal
def average_cross(at: At) -> Seen | None:
    """Buy when the 50-candle average crosses the 200-candle one upwards, sell when downwards."""
    return _crossed(at, ("sma:50", "sma"), ("sma:200", "sma"), ("sma50", "sma200"))


@signal
def ema_cross(at: At) -> Seen | None:
    """Buy when the 12-candle exponential average crosses the 26-candle one upwards, sell when downwards."""
    return _crossed(at, ("ema:12", "ema"), ("ema:26", "ema"), ("ema12", "ema26"))


@signal
def macd_cross(at: At) -> Seen | None:
    """Buy when MACD (12, 26) crosses its 9-candle signal line upwards, sell when downwards."""
    return _crossed(at, ("macd", "macd"), ("macd", "signal"), ("macd", "signal"))


@signal
def rsi_return(at: At) -> Seen | None:
    """Buy when RSI 14 comes back to 30 or more from below, sell when it comes back to 70 or less from above."""
    before, now = at("rsi", back=1), at("rsi")
    inputs = {"rsi": now, "rsi_before": before}
    if before < OVERSOLD <= now:
        return Seen(Side.BUY, inputs, f"RSI came back from {before:.0f} to {now:.0f}: it is no longer oversold")
    if before > OVERBOUGHT >= now:
        return Seen(Side.SELL, inputs, f"RSI came back from {before:.0f} to {now:.0f}: it is no longer overbought")
    return None


@signal
def stochastic_cross(at: At) -> Seen | None:
    """Buy when the stochastic's %K crosses %D upwards with %D below 20, sell when downwards with %D above 80."""
    before, now = (_percent(at("stoch", "k", back) - at("stoch", "d", back)) for back in (1, 0))
    d = at("stoch", "d")
    inputs = {"k": at("stoch", "k"), "d": d}
    if before <= 0 < now and d < LOW:
        return Seen(Side.BUY, inputs, f"%K crossed %D upwards at {d:.0f}")
    if before >= 0 > now and d > HIGH:
        return Seen(Side.SELL, inputs, f"%K crossed %D downwards at {d:.0f}")
    return None


@signal
def band_return(at: At) -> Seen | None:
    """Buy when the close comes back above the lower Bollinger band (20, 2), sell when it comes back below the upper."""
    close, before = at.bar("close"), at.bar("close", 1)
    lower, upper = at("bbands", "lower"), at("bbands", "upper")
    inputs = {"close": close, "lower": lower, "upper": upper}
    if at.before().sign(before - at("bbands", "lower", 1)) < 0 <= at.sign(close - lower):
        return Seen(Side.BUY, inputs, "the close came back into the Bollinger bands from below")
    if at.before().sign(before - at("bbands", "upper", 1)) > 0 >= at.sign(close - upper):
        return Seen(Side.SELL, inputs, "the close came back into the Bollinger bands from above")
    return None


@signal
def breakout(at: At) -> Seen | None:
    """Buy when the close is above the highest high of the 20 candles before, sell when below their lowest low; each
    with at least 1.5 times the mean volume of the last 20 candles."""
    close, volume, mean = at.bar("close"), at.bar("volume"), at("volume:20", "average")
    high, low = at("donchian:20", "upper", 1), at("donchian:20", "lower", 1)
    if not volume >= BUSY * mean or not mean:
        return None
    inputs = {"close": close, "high": high, "low": low, "volume": volume, "volume_mean": mean}
    times = f"with {volume / mean:.1f} times the mean volume"
    if close > high:
        return Seen(Side.BUY, inputs, f"the close broke above the high of the 20 candles before, {times}")
    if close < low:
        return Seen(Side.SELL, inputs, f"the close broke below the low of the 20 candles before, {times}")
    return None


@signal
def bounce(at: At) -> Seen | None:
    """Buy when a candle opens above a support of at least two touches, comes within 0.25 mean true ranges of it or
    below, and closes above it in the upper half of its range. Sell in the same way below a resistance. The levels are
    those of the candle before."""
    opened, high, low, close = (at.bar(name) for name in ("open", "high", "low", "close"))
    near, upper = NEAR * at.unit(1), close - low > high - close
    for level in at.before().levels("sr") if near > 0 and high > low else ():
        inputs = {"level": level.price, "touches": level.known["touches"], "low": low, "high": high, "close": close}
        if level.known["touches"] < TOUCHED:
            continue
        if opened > level.price < close and low <= level.price + near and upper:
            return Seen(Side.BUY, inputs, f"the price turned upwards at the support of {rounded(level.price):g}")
        if opened < level.price > close and high >= level.price - near and not upper:
            return Seen(Side.SELL, inputs, f"the price turned downwards at the resistance of {rounded(level.price):g}")
    return None
