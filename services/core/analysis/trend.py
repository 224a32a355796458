"""The trend: rules vote from -1 (down) to 1 (up), each with its weight."""

import inspect
from collections.abc import Callable
from math import isnan
from typing import NamedTuple

from services.core.analysis import Direction, Trend, Vote
from services.core.analysis.candle_view import REAL, At, rounded

SIDEWAYS = 25  # strength below which there is no direction
SPAN = 20  # candles of which a trend should be seen
STEEP = 5  # mean true ranges within SPAN that are a trend as strong as can be
STRONG = 25  # average directional index from which a movement is directed

WHERE = {1.0: "above", 0.0: "at", -1.0: "below"}


class Ballot(NamedTuple):
    """What a rule says, and from what. NaN: it cannot say."""

    value: float
    inputs: dict[str, float]
    reason: str


class Rule(NamedTuple):
    """A rule that votes."""

    name: str
    weight: int
    text: str
    run: Callable[[At], Ballot]


RULES: list[Rule] = []


def vote(weight: int) -> Callable[[Callable[[At], Ballot]], Callable[[At], Ballot]]:
    """Let a function vote with that weight; its docstring is the rule."""

    def put(run: Callable[[At], Ballot]) -> Callable[[At], Ballot]:
        RULES.append(Rule(run.__name__, weight, inspect.cleandoc(run.__doc__ or ""), run))
        return run

    return put


def direction(score: float) -> Direction:
    """What a score from -100 to 100 comes to."""
    if abs(score) < SIDEWAYS:
        return Direction.SIDEWAYS
    return Direction.UP if score > 0 else Direction.DOWN


def trend(at: At) -> Trend:
    """The mean of the votes by their weights. A rule that has no values yet does not vote."""
    votes = [found for rule in RULES if (found := _cast(rule, at))]
    weights = sum(each.weight for each in votes)
    score = round(100 * sum(each.value * each.weight for each in votes) / weights) if weights else 0
    return Trend(direction(score) if votes else Direction.UNKNOWN, abs(score), tuple(votes))


def _cast(rule: Rule, at: At) -> Vote | None:
    value, inputs, reason = rule.run(at)
    if isnan(value) or any(isnan(each) for each in inputs.values()):
        return None
    known = {name: rounded(each) for name, each in inputs.items()}
    return Vote(rule.name, round(value, 2) + 0.0, rule.weight, known, reason)


@vote(30)
def averages(at: At) -> Ballot:
    """The mean of three distances, in mean true ranges, none beyond 1: the close from its 50-candle average, in halves;
    the 12-candle exponential average from the 26-candle one; that from the 50-candle one. Of the last two no more
    counts than a quarter of the range of the last 50 candles."""
    close, slow = at.bar("close"), at("sma:50")
    fast, middle, long = at("ema:12"), at("ema:26"), at("ema:50")
    short, wide = at.moved(fast - middle), at.moved(middle - long)
    value = (at.lean(close - slow, 2) + at.lean(short, 1) + at.lean(wide, 1)) / 3
    signs = at.sign(short), at.sign(wide)
    order = "rising" if signs == (1, 1) else "falling" if signs == (-1, -1) else "no"
    inputs = {"close": close, "sma50": slow, "ema12": fast, "ema26": middle, "ema50": long, "atr": at.atr()}
    where = WHERE.get(at.sign(close - slow))
    return Ballot(
        value, inputs, f"the close is {where} its 50-candle average, the shorter averages are in {order} order"
    )


@vote(25)
def slope(at: At) -> Ballot:
    """How far the 20-candle average has moved within 20 candles, in units of 5 mean true ranges, none beyond 1."""
    now, before = at("sma:20"), at("sma:20", back=SPAN)
    inputs = {"sma20": now, "sma20_before": before, "atr": at.atr()}
    by = f"by {abs(now - before) / at.unit():.1f} mean true ranges"
    way = {1.0: f"risen {by}", -1.0: f"fallen {by}", 0.0: "not moved"}.get(at.sign(now - before))
    return Ballot(at.lean(now - before, STEEP), inputs, f"the 20-candle average has {way} in {SPAN} candles")


@vote(25)
def structure(at: At) -> Ballot:
    """How much higher the high and the low of the last 20 candles are than those of the 20 before: the mean of both
    distances in mean true ranges, none beyond 1."""
    high, low = at("donchian:20", "upper"), at("donchian:20", "lower")
    before = at("donchian:20", "upper", SPAN), at("donchian:20", "lower", SPAN)
    value = (at.lean(high - before[0], 1) + at.lean(low - before[1], 1)) / 2
    inputs = {"high": high, "low": low, "high_before": before[0], "low_before": before[1], "atr": at.atr()}
    words = WHERE.get(at.sign(high - before[0])), WHERE.get(at.sign(low - before[1]))
    reason = f"the high of the last {SPAN} candles is {words[0]} that of the {SPAN} before, the low {words[1]} theirs"
    return Ballot(value, inputs, reason)


@vote(20)
def directional(at: At) -> Ballot:
    """(+DI - -DI) / (+DI + -DI), times ADX / 25 where that is below 1. All three are ratios, which stay when the price
    has stopped: times the mean true range in steps, and times the range of the last 50 candles in units of 4 mean
    true ranges, where these are below 1."""
    adx, plus, minus = at("adx"), at("adx", "plus_di"), at("adx", "minus_di")
    both = plus + minus
    alive = min(1.0, at.atr() / at.market.steps[at.place], at.range() / (REAL * at.unit()))
    value = (plus - minus) / both * min(1.0, adx / STRONG) * alive if both else 0.0 * both
    kind = "a directed" if adx >= STRONG and alive == 1 else "no directed"
    inputs = {"adx": adx, "plus_di": plus, "minus_di": minus}
    return Ballot(value, inputs, f"+DI is {plus:.0f}, -DI {minus:.0f}, and ADX {adx:.0f} says {kind} movement")
