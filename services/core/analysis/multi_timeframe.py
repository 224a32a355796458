"""Several timeframes of one symbol combined: longer ones have a larger weight."""

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
    """The trend of several timeframes. `agreement` is the percentage of the weights that have the same direction."""

    direction: TrendDirection
    strength: int
    agreement: int


def combine_trends(analyses: Sequence[Analysis]) -> CombinedTrend:
    """Return the weighted mean of the signed strengths. Timeframes with an unknown trend do not count."""
    with_trend = [each for each in analyses if each.trend.direction is not TrendDirection.UNKNOWN]
    weights = sum(map(weight, with_trend))
    if not weights:
        return CombinedTrend(TrendDirection.UNKNOWN, 0, 0)
    score = round(sum(weight(each) * _signed_strength(each) for each in with_trend) / weights)
    direction = trend_direction(score)
    agreeing = sum(weight(each) for each in with_trend if each.trend.direction is direction)
    return CombinedTrend(direction, abs(score), round(100 * agreeing / weights))


def weight(analysis: Analysis) -> int:
    """Return the weight of an analysis' timeframe."""
    return TIMEFRAME_WEIGHTS[analysis.series.timeframe]


def _signed_strength(analysis: Analysis) -> int:
    """Return the strength with the sign of the votes, which a sideways trend has too."""
    score = sum(vote.value * vote.weight for vote in analysis.trend.votes)
    return analysis.trend.strength if score > 0 else -analysis.trend.strength
