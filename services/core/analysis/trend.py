"""The trend: rules vote from -1 (down) to 1 (up), each with its weight."""

import inspect
from collections.abc import Callable
from math import isnan
from typing import NamedTuple

from services.core.analysis import Trend, TrendDirection, Vote
from services.core.analysis.candle_view import REAL_MOVE_ATRS, CandleView, round_significant

MIN_TREND_STRENGTH = 25  # below it the market goes sideways
TREND_CANDLES = 20
FULL_SLOPE_ATRS = 5  # within `TREND_CANDLES`: the vote is 1
DIRECTED_ADX = 25  # from here on a movement counts as directed

POSITION_WORDS = {1.0: "above", 0.0: "at", -1.0: "below"}


class RuleVote(NamedTuple):
    """The vote of a rule with its inputs. The value is NaN if the rule has no inputs yet."""

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
    """Register a function as a rule with a weight. Its docstring is the text of the rule."""

    def register(run: Callable[[CandleView], RuleVote]) -> Callable[[CandleView], RuleVote]:
        RULES.append(TrendRule(run.__name__, weight, inspect.cleandoc(run.__doc__ or ""), run))
        return run

    return register


def trend_direction(score: float) -> TrendDirection:
    """Return the direction for a score from -100 to 100."""
    if abs(score) < MIN_TREND_STRENGTH:
        return TrendDirection.SIDEWAYS
    return TrendDirection.UP if score > 0 else TrendDirection.DOWN


def compute_trend(view: CandleView) -> Trend:
    """Return the weighted mean of the votes. A rule without inputs does not vote."""
    votes = [cast for rule in RULES if (cast := _cast_vote(rule, view))]
    weights = sum(cast.weight for cast in votes)
    score = round(100 * sum(cast.value * cast.weight for cast in votes) / weights) if weights else 0
    return Trend(trend_direction(score) if votes else TrendDirection.UNKNOWN, abs(score), tuple(votes))


def _cast_vote(rule: TrendRule, view: CandleView) -> Vote | None:
    value, inputs, reason = rule.run(view)
    if isnan(value) or any(isnan(each) for each in inputs.values()):
        return None
    rounded = {name: round_significant(each) for name, each in inputs.items()}
    return Vote(rule.name, round(value, 2) + 0.0, rule.weight, rounded, reason)


@vote(30)
def averages(view: CandleView) -> RuleVote:
    """The mean of three distances in mean true ranges, each at most 1: half the distance of the close from its
    50-candle average; that of the 12-candle exponential average from the 26-candle one; that of the 26-candle one from
    the 50-candle one. The last two count up to a quarter of the range of the last 50 candles."""
    close, slow = view.bar("close"), view.value("sma:50")
    fast, middle, long = view.value("ema:12"), view.value("ema:26"), view.value("ema:50")
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
    """The movement of the 20-candle average within 20 candles, in units of 5 mean true ranges, at most 1."""
    now, before = view.value("sma:20"), view.value("sma:20", back=TREND_CANDLES)
    inputs = {"sma20": now, "sma20_before": before, "atr": view.atr()}
    by = f"by {abs(now - before) / view.atr_or_step():.1f} mean true ranges"
    moved = {1.0: f"risen {by}", -1.0: f"fallen {by}", 0.0: "not moved"}.get(view.sign(now - before))
    reason = f"the 20-candle average has {moved} in {TREND_CANDLES} candles"
    return RuleVote(view.in_atrs(now - before, FULL_SLOPE_ATRS), inputs, reason)


@vote(25)
def structure(view: CandleView) -> RuleVote:
    """How much higher the high and the low of the last 20 candles are than those of the 20 before: the mean of both
    distances in mean true ranges, each at most 1."""
    high, low = view.value("donchian:20", "upper"), view.value("donchian:20", "lower")
    high_before = view.value("donchian:20", "upper", TREND_CANDLES)
    low_before = view.value("donchian:20", "lower", TREND_CANDLES)
    value = (view.in_atrs(high - high_before, 1) + view.in_atrs(low - low_before, 1)) / 2
    inputs = {"high": high, "low": low, "high_before": high_before, "low_before": low_before, "atr": view.atr()}
    highs, lows = (POSITION_WORDS.get(view.sign(each)) for each in (high - high_before, low - low_before))
    reason = f"the high of the last {TREND_CANDLES} candles is {highs} that of the {TREND_CANDLES} before"
    return RuleVote(value, inputs, f"{reason}, their low is {lows} the low before")


@vote(20)
def directional(view: CandleView) -> RuleVote:
    """(+DI - -DI) / (+DI + -DI), times ADX / 25 if that is below 1. All three are ratios and stay the same after the
    price has stopped. So the vote is also multiplied by the mean true range in steps, or by the range of the last 50
    candles in units of 4 mean true ranges, whichever is smaller, if that is below 1."""
    adx, plus, minus = view.value("adx"), view.value("adx", "plus_di"), view.value("adx", "minus_di")
    total = plus + minus
    moving = min(1.0, view.atr() / view.price_step, view.recent_range() / (REAL_MOVE_ATRS * view.atr_or_step()))
    value = (plus - minus) / total * min(1.0, adx / DIRECTED_ADX) * moving if total else 0.0 * total
    kind = "a directed" if adx >= DIRECTED_ADX and moving == 1 else "no directed"
    inputs = {"adx": adx, "plus_di": plus, "minus_di": minus}
    reason = f"+DI is {plus:.0f}, -DI {minus:.0f}, and ADX {adx:.0f} shows {kind} movement"
    return RuleVote(value, inputs, reason)
