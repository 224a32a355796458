"""An analysis: all that the closed candles up to one of them say. The same candles give the same, to the digit."""

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

MIN_TREND_CANDLES = 60  # candles from which a trend is told
SIGNAL_CANDLES = 10  # candles whose signals are told
VOLATILITY_RANK_CANDLES = 100  # candles that the volatility is ranked among
LOW_VOLATILITY_RANK, HIGH_VOLATILITY_RANK = 20, 80  # ranks
MAX_LEVELS_PER_SIDE = 5  # of each kind
REQUIREMENTS = Requirements(
    parse_specs(
        "sma:20,sma:50,sma:200,ema:12,ema:26,ema:50,macd,rsi,stoch,bbands,volume,donchian,adx,atr,sr,fib,pivots",
    ),
    VOLATILITY_RANK_CANDLES,
)
"""Which indicators the rules look at."""


def analyse(series: Series, columns: OhlcvColumns, daily: OhlcvColumns | None = None) -> Analysis:
    """As of the last of these closed candles, which should reach back as far as `reach(NEED, ...)` says. `daily`: those
    of 1d from `NEED.daily_since` on.
    """
    if not len(columns.open_times):
        unknown = Trend(TrendDirection.UNKNOWN, 0, ())
        return Analysis(series, None, None, 0, unknown, notes=("no closed candle is kept",))
    return next(analyse_since(series, columns, int(columns.open_times[-1]), daily))


def analyse_since(
    series: Series, columns: OhlcvColumns, since: int, daily: OhlcvColumns | None = None
) -> Iterator[Analysis]:
    """Of all candles with openings from `since` on."""
    timeframe = TIMEFRAMES[series.timeframe]
    for part in blocks(REQUIREMENTS, timeframe, columns, since):
        market, seen = IndicatorView(part.columns, timeframe, daily), dict[int, list[Signal]]()
        for place in part.indices():
            for each in range(max(0, place - SIGNAL_CANDLES + 1), place + 1):
                seen[each] = seen[each] if each in seen else find_signals(CandleView(market, each))
            recent = [signal for each in range(place, max(-1, place - SIGNAL_CANDLES), -1) for signal in seen[each]]
            yield _analyse_candle(series, CandleView(market, place), recent)


def _analyse_candle(series: Series, view: CandleView, recent: Sequence[Signal]) -> Analysis:
    close, count = view.bar("close"), view.at + 1
    known, warnings = compute_trend(view), collect_notes(view)
    if count < MIN_TREND_CANDLES:
        known = Trend(TrendDirection.UNKNOWN, 0, ())
        warnings = (f"only {count} closed candles are kept: a trend is told from {MIN_TREND_CANDLES} on", *warnings)
    levels = [_support_resistance_level(found.price, found.details) for found in view.levels("sr")]
    support = [level for level in levels if level.price < close]
    resistance = [level for level in levels if level.price >= close]
    return Analysis(
        series,
        int(view.indicators.columns.open_times[view.at]),
        round_significant(close),
        min(count, ANALYSED_CANDLES),
        known,
        tuple(recent),
        tuple(support[: -MAX_LEVELS_PER_SIDE - 1 : -1]),
        tuple(resistance[:MAX_LEVELS_PER_SIDE]),
        tuple(_named_prices(view, "fib")),
        tuple(_named_prices(view, "pivots")),
        _volatility(view),
        warnings,
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
    return [NamedPrice(found.name, round_significant(found.price)) for found in view.levels(indicator)]


def _volatility(view: CandleView) -> Volatility | None:
    """The mean true range in percent of the close, ranked among the last candles."""
    last = [
        each
        for each in view.indicators.atr_percents[max(0, view.at - VOLATILITY_RANK_CANDLES + 1) : view.at + 1]
        if not isnan(each)
    ]
    mine = view.indicators.atr_percents[view.at]
    if isnan(mine):
        return None
    rank = round(100 * sum(each < mine for each in last) / len(last))
    state = "low" if rank < LOW_VOLATILITY_RANK else "high" if rank >= HIGH_VOLATILITY_RANK else "normal"
    return Volatility(round_significant(view.atr()), round_significant(mine), rank, state)
