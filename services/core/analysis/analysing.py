"""The analysis of closed candles. The same candles give the same analysis, to the digit."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from services.core.analysis import (
    Analysis,
    NamedPrice,
    Signal,
    SupportResistanceLevel,
    Trend,
    TrendDirection,
    Volatility,
)
from services.core.analysis.blocks import Requirements, blocks
from services.core.analysis.candle_view import ANALYSED_CANDLES, CandleView, IndicatorView, round_significant
from services.core.analysis.notes import collect_notes
from services.core.analysis.signals import find_signals
from services.core.analysis.trend import compute_trend
from services.core.indicators import OhlcvColumns, parse_specs
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES

MIN_TREND_CANDLES = 60  # with fewer the trend is unknown
SIGNAL_CANDLES = 10  # newest closed candles whose signals are part of an analysis
VOLATILITY_RANK_CANDLES = 100
LOW_VOLATILITY_RANK, HIGH_VOLATILITY_RANK = 20, 80  # percent
MAX_LEVELS_PER_SIDE = 5
REQUIREMENTS = Requirements(
    parse_specs(
        "sma:20,sma:50,sma:200,ema:12,ema:26,ema:50,macd,rsi,stoch,bbands,volume,donchian,adx,atr,sr,fib,pivots",
    ),
    VOLATILITY_RANK_CANDLES,
)
"""All indicators that the rules use."""


def analyse(series: Series, columns: OhlcvColumns, daily: OhlcvColumns | None = None) -> Analysis:
    """Return the analysis as of the last of these closed candles. They should begin at `first_needed(REQUIREMENTS, …)`,
    candles of 1d in `daily` at `REQUIREMENTS.daily_since(…)`.
    """
    if not len(columns.open_times):
        unknown = Trend(TrendDirection.UNKNOWN, 0, ())
        return Analysis(series, None, None, 0, unknown, notes=("no closed candle is stored",))
    return next(analyse_since(series, columns, int(columns.open_times[-1]), daily))


def analyse_since(
    series: Series, columns: OhlcvColumns, since: int, daily: OhlcvColumns | None = None
) -> Iterator[Analysis]:
    """Return an analysis for each candle with an open time from `since` on."""
    timeframe = TIMEFRAMES[series.timeframe]
    for block in blocks(REQUIREMENTS, timeframe, columns, since):
        indicators, signals = IndicatorView(block.columns, timeframe, daily), dict[int, list[Signal]]()
        for index in block.indices():
            recent = range(index, max(-1, index - SIGNAL_CANDLES), -1)
            for each in recent:
                if each not in signals:
                    signals[each] = find_signals(CandleView(indicators, each))
            newest_first = [signal for each in recent for signal in signals[each]]
            yield _analyse_candle(series, CandleView(indicators, index), newest_first)


def _analyse_candle(series: Series, view: CandleView, signals: Sequence[Signal]) -> Analysis:
    close, count = view.bar("close"), view.candle_index + 1
    trend, notes = compute_trend(view), collect_notes(view)
    if count < MIN_TREND_CANDLES:
        trend = Trend(TrendDirection.UNKNOWN, 0, ())
        notes = (f"only {count} closed candles are stored: a trend needs {MIN_TREND_CANDLES}", *notes)
    levels = [_support_resistance_level(level.price, level.details) for level in view.levels("sr")]
    support = [level for level in levels if level.price < close]
    resistance = [level for level in levels if level.price >= close]
    return Analysis(
        series,
        int(view.indicators.columns.open_times[view.candle_index]),
        round_significant(close),
        min(count, ANALYSED_CANDLES),
        trend,
        tuple(signals),
        tuple(support[: -MAX_LEVELS_PER_SIDE - 1 : -1]),
        tuple(resistance[:MAX_LEVELS_PER_SIDE]),
        tuple(_named_prices(view, "fib")),
        tuple(_named_prices(view, "pivots")),
        _volatility(view),
        notes,
    )


def _support_resistance_level(price: float, details: Mapping[str, float]) -> SupportResistanceLevel:
    return SupportResistanceLevel(
        round_significant(price),
        int(details["touches"]),
        round(details["strength"]),
        int(details["first"]),
        int(details["last"]),
    )


def _named_prices(view: CandleView, indicator: str) -> list[NamedPrice]:
    return [NamedPrice(level.name, round_significant(level.price)) for level in view.levels(indicator)]


def _volatility(view: CandleView) -> Volatility | None:
    until = view.candle_index + 1
    recent = view.indicators.atr_percents[max(0, until - VOLATILITY_RANK_CANDLES) : until]
    current = recent[-1]
    if isnan(current):
        return None
    valid = [percent for percent in recent if not isnan(percent)]
    rank = round(100 * sum(percent < current for percent in valid) / len(valid))
    state = "low" if rank < LOW_VOLATILITY_RANK else "high" if rank >= HIGH_VOLATILITY_RANK else "normal"
    return Volatility(round_significant(view.atr()), round_significant(current), rank, state)
