"""An analysis: all that the closed candles up to one of them say. The same candles give the same, to the digit."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from services.core.analysis import Analysis, Direction, Level, Line, Signal, Trend, Volatility
from services.core.analysis.blocks import Need, parts
from services.core.analysis.candle_view import LOOKED, At, Market, rounded
from services.core.analysis.notes import notes
from services.core.analysis.signals import signals
from services.core.analysis.trend import trend
from services.core.indicators import Columns, parse
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES

FEWEST = 60  # candles from which a trend is told
RECENT = 10  # candles whose signals are told
RANKED = 100  # candles that the volatility is ranked among
CALM, WILD = 20, 80  # ranks
LEVELS = 5  # of each kind
NEED = Need(
    parse(
        "sma:20,sma:50,sma:200,ema:12,ema:26,ema:50,macd,rsi,stoch,bbands,volume,donchian,adx,atr,sr,fib,pivots",
    ),
    RANKED,
)
"""Which indicators the rules look at."""


def analyse(series: Series, columns: Columns, daily: Columns | None = None) -> Analysis:
    """As of the last of these closed candles, which should reach back as far as `reach(NEED, ...)` says. `daily`: those
    of 1d from `NEED.daily_since` on.
    """
    if not len(columns.time):
        unknown = Trend(Direction.UNKNOWN, 0, ())
        return Analysis(series, None, None, 0, unknown, notes=("no closed candle is kept",))
    return next(analyses(series, columns, int(columns.time[-1]), daily))


def analyses(series: Series, columns: Columns, since: int, daily: Columns | None = None) -> Iterator[Analysis]:
    """Of all candles with openings from `since` on."""
    timeframe = TIMEFRAMES[series.timeframe]
    for part in parts(NEED, timeframe, columns, since):
        market, seen = Market(part.columns, timeframe, daily), dict[int, list[Signal]]()
        for place in part.places():
            for each in range(max(0, place - RECENT + 1), place + 1):
                seen[each] = seen[each] if each in seen else signals(At(market, each))
            recent = [signal for each in range(place, max(-1, place - RECENT), -1) for signal in seen[each]]
            yield _analysis(series, At(market, place), recent)


def _analysis(series: Series, at: At, recent: Sequence[Signal]) -> Analysis:
    close, count = at.bar("close"), at.place + 1
    known, warnings = trend(at), notes(at)
    if count < FEWEST:
        known = Trend(Direction.UNKNOWN, 0, ())
        warnings = (f"only {count} closed candles are kept: a trend is told from {FEWEST} on", *warnings)
    levels = [_level(found.price, found.known) for found in at.levels("sr")]
    support = [level for level in levels if level.price < close]
    resistance = [level for level in levels if level.price >= close]
    return Analysis(
        series,
        int(at.market.columns.time[at.place]),
        rounded(close),
        min(count, LOOKED),
        known,
        tuple(recent),
        tuple(support[: -LEVELS - 1 : -1]),
        tuple(resistance[:LEVELS]),
        tuple(_lines(at, "fib")),
        tuple(_lines(at, "pivots")),
        _volatility(at),
        warnings,
    )


def _level(price: float, known: Mapping[str, float]) -> Level:
    return Level(
        rounded(price), int(known["touches"]), round(known["strength"]), int(known["first"]), int(known["last"])
    )


def _lines(at: At, indicator: str) -> list[Line]:
    return [Line(found.name, rounded(found.price)) for found in at.levels(indicator)]


def _volatility(at: At) -> Volatility | None:
    """The mean true range in percent of the close, ranked among the last candles."""
    last = [each for each in at.market.percents[max(0, at.place - RANKED + 1) : at.place + 1] if not isnan(each)]
    mine = at.market.percents[at.place]
    if isnan(mine):
        return None
    rank = round(100 * sum(each < mine for each in last) / len(last))
    state = "low" if rank < CALM else "high" if rank >= WILD else "normal"
    return Volatility(rounded(at.atr()), rounded(mine), rank, state)
