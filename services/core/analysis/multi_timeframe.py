"""Several timeframes of one symbol summed up: longer ones weigh more."""

from collections.abc import Sequence

from msgspec import Struct

from services.core.analysis import Analysis, TrendDirection
from services.core.analysis.trend import trend_direction

DEFAULT_TIMEFRAMES = ("15m", "1h", "4h", "1d")
TIMEFRAME_WEIGHTS = {
    **dict.fromkeys(("1m", "3m", "5m"), 1),
    **dict.fromkeys(("15m", "30m"), 2),
    **dict.fromkeys(("1h", "2h"), 3),
    **dict.fromkeys(("4h", "6h", "8h", "12h"), 4),
    **dict.fromkeys(("1d", "3d"), 5),
    **dict.fromkeys(("1w", "1M"), 6),
}


class CombinedTrend(Struct, frozen=True):
    """What all of them come to. `agreement`: the share, in per cent, of the weights that go the same way."""

    direction: TrendDirection
    strength: int
    agreement: int


def combine_trends(analyses: Sequence[Analysis]) -> CombinedTrend:
    """The mean of their strengths, up and down against each other, by the weights. Who cannot tell is left out."""
    telling = [each for each in analyses if each.trend.direction is not TrendDirection.UNKNOWN]
    weights = sum(map(weight, telling))
    if not weights:
        return CombinedTrend(TrendDirection.UNKNOWN, 0, 0)
    score = round(sum(weight(each) * _signed_strength(each) for each in telling) / weights)
    way = trend_direction(score)
    agreeing = sum(weight(each) for each in telling if each.trend.direction is way)
    return CombinedTrend(way, abs(score), round(100 * agreeing / weights))


def weight(analysis: Analysis) -> int:
    """How much its timeframe counts."""
    return TIMEFRAME_WEIGHTS[analysis.series.timeframe]


def _signed_strength(analysis: Analysis) -> int:
    """Strength with its sign; what goes sideways has one as well, in its votes."""
    score = sum(vote.value * vote.weight for vote in analysis.trend.votes)
    return analysis.trend.strength if score > 0 else -analysis.trend.strength
