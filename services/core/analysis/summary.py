"""An analysis as a text."""

from collections.abc import Iterator, Sequence

from services.core.analysis import Analysis, Side, SupportResistanceLevel, TrendDirection
from services.core.analysis.multi_timeframe import CombinedTrend

TREND_TEXTS = {
    TrendDirection.UP: "The trend is up",
    TrendDirection.DOWN: "The trend is down",
    TrendDirection.SIDEWAYS: "The market goes sideways",
    TrendDirection.UNKNOWN: "The trend is unknown",
}


def summary_text(analysis: Analysis) -> str:
    """Return an analysis with its reasons in a few sentences."""
    return " ".join(_sentences(analysis))


def combined_summary_text(analyses: Sequence[Analysis], combined: CombinedTrend) -> str:
    """Return the combination of several timeframes in a few sentences."""
    if combined.direction is TrendDirection.UNKNOWN:
        return "No timeframe has enough closed candles for a trend."
    rows = ", ".join(f"{each.series.timeframe} {each.trend.direction} {each.trend.strength}" for each in analyses)
    trend = f"go {combined.direction}, strength {combined.strength} of 100"
    return f"Together the timeframes {trend}; {combined.agreement} % of their weight agrees. Each of them: {rows}."


def _sentences(analysis: Analysis) -> Iterator[str]:
    trend = analysis.trend
    reasons = "; ".join(vote.reason for vote in trend.votes)
    strength = f", strength {trend.strength} of 100" if trend.direction is not TrendDirection.UNKNOWN else ""
    yield f"{TREND_TEXTS[trend.direction]}{strength}{': ' if reasons else ''}{reasons}."
    if analysis.signals:
        sides = [sum(1 for each in analysis.signals if each.side is side) for side in Side]
        newest = analysis.signals[0]
        yield f"Signals of the last candles: {sides[0]} to buy, {sides[1]} to sell; the newest: {newest.reason}."
    for name, levels in (("support", analysis.support_levels), ("resistance", analysis.resistance_levels)):
        if levels and analysis.close:
            yield f"The nearest {name} is {_level_text(levels[0], analysis.close)}."
    if analysis.volatility:
        percent, state = analysis.volatility.percent, analysis.volatility.state
        yield f"A candle's mean true range is {percent:.2g} % of the close: {state} for this market."
    if analysis.notes:
        yield f"Note: {'; '.join(analysis.notes)}."


def _level_text(level: SupportResistanceLevel, close: float) -> str:
    distance = abs(level.price / close - 1) * 100
    touches = "one touch" if level.touches == 1 else f"{level.touches} touches"
    return f"{level.price:g}, {distance:.2g} % away, with {touches}"
