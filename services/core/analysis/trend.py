"""The trend: rules vote from -1 (down) to 1 (up), each with its weight."""

import inspect
from collections.abc import Callable
from math import isnan
from typing import NamedTuple

from services.core.analysis import Trend, TrendDirection, Vote
from services.core.analysis.candle_view import REAL_MOVE_ATRS, CandleView, round_significant

MIN_TREND_STRENGTH = 25  # strength below which there is no direction
TREND_CANDLES = 20  # candles of which a trend should be seen
FULL_SLOPE_ATRS = 5  # mean true ranges within SPAN that are a trend as strong as can be
DIRECTED_ADX = 25  # average directional index from which a movement is directed

POSITION_WORDS = {1.0: "above", 0.0: "at", -1.0: "below"}


class RuleVote(NamedTuple):
    """What a rule says, and from what. NaN: it cannot say."""

    value: float
    inputs: dict[str, float]
    reason: str


class TrendRule(NamedTuple):
    """A rule that votes."""

    name: str
    weight: int
    text: str
    run: Callable[[CandleView], RuleVote]


RULES: list[TrendRule] = []


def vote(weight: int) -> Callable[[Callable[[CandleView], RuleVote]], Callable[[CandleView], RuleVote]]:
    """Let a function vote with that weight; its docstring is the rule."""

    def put(run: Callable[[CandleView], RuleVote]) -> Callable[[CandleView], RuleVote]:
        RULES.append(TrendRule(run.__name__, weight, inspect.cleandoc(run.__doc__ or ""), run))
        return run

    return put


def trend_direction(score: float) -> TrendDirection:
    """What a score from -100 to 100 comes to."""
    if abs(score) < MIN_TREND_STRENGTH:
        return TrendDirection.SIDEWAYS
    return TrendDirection.UP if score > 0 else TrendDirection.DOWN


def compute_trend(view: CandleView) -> Trend:
    """The mean of the votes by their weights. A rule that has no values yet does not vote."""
    votes = [found for rule in RULES if (found := _cast_vote(rule, view))]
    weights = sum(each.weight for each in votes)
    score = round(100 * sum(each.value * each.weight for each in votes) / weights) if weights else 0
    return Trend(trend_direction(score) if votes else TrendDirection.UNKNOWN, abs(score), tuple(votes))


def _cast_vote(rule: TrendRule, view: CandleView) -> Vote | None:
    value, inputs, reason = rule.run(view)
    if isnan(value) or any(isnan(each) for each in inputs.values()):
        return None
    known = {name: round_significant(each) for name, each in inputs.items()}
    return Vote(rule.name, round(value, 2) + 0.0, rule.weight, known, reason)


@vote(30)
def averages(view: CandleView) -> RuleVote:
    """The mean of three distances, in mean true ranges, none beyond 1: the close from its 50-candle average, in halves;
    the 12-candle exponential average from the 26-candle one; that from the 50-candle one. Of the last two no more
    counts than a quarter of the range of the last 50 candles."""
    close, slow = view.bar("close"), view("sma:50")
    fast, middle, long = view("ema:12"), view("ema:26"), view("ema:50")
    short, wide = view.capped_by_range(fast - middle), view.capped_by_range(middle - long)
    value = (view.in_atrs(close - slow, 2) + view.in_atrs(short, 1) + view.in_atrs(wide, 1)) / 3
    signs = view.sign(short), view.sign(wide)
    order = "rising" if signs == (1, 1) else "falling" if signs == (-1, -1) else "no"
    inputs = {"close": close, "sma50": slow, "ema12": fast, "ema26": middle, "ema50": long, "atr": view.atr()}
    where = POSITION_WORDS.get(view.sign(close - slow))
    return RuleVote(
        value, inputs, f"the close is {where} its 50-candle average, the shorter averages are in {order} order"
    )


@vote(25)
def slope(view: CandleView) -> RuleVote:
    """How far the 20-candle average has moved within 20 candles, in units of 5 mean true ranges, none beyond 1."""
    now, before = view("sma:20"), view("sma:20", back=TREND_CANDLES)
    inputs = {"sma20": now, "sma20_before": before, "atr": view.atr()}
    by = f"by {abs(now - before) / view.atr_or_step():.1f} mean true ranges"
    way = {1.0: f"risen {by}", -1.0: f"fallen {by}", 0.0: "not moved"}.get(view.sign(now - before))
    return RuleVote(
        view.in_atrs(now - before, FULL_SLOPE_ATRS),
        inputs,
        f"the 20-candle average has {way} in {TREND_CANDLES} candles",
    )


@vote(25)
def structure(view: CandleView) -> RuleVote:
    """How much higher the high and the low of the last 20 candles are than those of the 20 before: the mean of both
    distances in mean true ranges, none beyond 1."""
    high, low = view("donchian:20", "upper"), view("donchian:20", "lower")
    before = view("donchian:20", "upper", TREND_CANDLES), view("donchian:20", "lower", TREND_CANDLES)
    value = (view.in_atrs(high - before[0], 1) + view.in_atrs(low - before[1], 1)) / 2
    inputs = {"high": high, "low": low, "high_before": before[0], "low_before": before[1], "atr": view.atr()}
    words = POSITION_WORDS.get(view.sign(high - before[0])), POSITION_WORDS.get(view.sign(low - before[1]))
    reason = f"the high of the last {TREND_CANDLES} candles is {words[0]} that of the {TREND_CANDLES} before"
    return RuleVote(value, inputs, f"{reason}, the low {words[1]} theirs")


@vote(20)
def directional(view: CandleView) -> RuleVote:
    """(+DI - -DI) / (+DI + -DI), times ADX / 25 where that is below 1. All three are ratios, which stay when the price
    has stopped: times the mean true range in steps, and times the range of the last 50 candles in units of 4 mean
    true ranges, where these are below 1."""
    adx, plus, minus = view("adx"), view("adx", "plus_di"), view("adx", "minus_di")
    both = plus + minus
    alive = min(
        1.0,
        view.atr() / view.indicators.price_steps[view.at],
        view.recent_range() / (REAL_MOVE_ATRS * view.atr_or_step()),
    )
    value = (plus - minus) / both * min(1.0, adx / DIRECTED_ADX) * alive if both else 0.0 * both
    kind = "a directed" if adx >= DIRECTED_ADX and alive == 1 else "no directed"
    inputs = {"adx": adx, "plus_di": plus, "minus_di": minus}
    return RuleVote(value, inputs, f"+DI is {plus:.0f}, -DI {minus:.0f}, and ADX {adx:.0f} says {kind} movement")
