"""What candles come to: readings of indicators, and analyses. Pure arithmetic, for a thread of its own."""

from collections.abc import Iterable, Iterator
from math import isnan

import numpy as np

from services.core.analysis import Analysis
from services.core.analysis.analysing import NEED, analyses
from services.core.analysis.blocks import Need, Part, parts, reach
from services.core.indicators import CATALOG, STANDARD, Asked, Columns, Level, ahead, compute, levels
from services.core.model import Reading, Series
from services.core.timeframes import TIMEFRAMES, Timeframe

NEEDS = {asked: Need((asked,), ahead=ahead(asked)) for asked in STANDARD}
DAILY = Need(STANDARD)
LEVELS = 3  # of one kind
Values = dict[str, float | None]


def rows(series: Series, columns: Columns, since: int, daily: Columns | None = None) -> list[Reading | Analysis]:
    """What closed candles with openings from `since` on say, and those before them that look ahead to them. `daily`:
    closed candles of 1d from `daily_since` on.
    """
    found = [reading for asked in STANDARD for reading in readings(series, columns, since, asked, daily=daily)]
    return [*found, *analyses(series, columns, since, daily)]


def daily_since(timeframe: Timeframe, opening: int) -> int | None:
    """The first opening of the candles of 1d that rows from this opening on are made of; None: they need none."""
    return DAILY.daily_since(timeframe, opening)


def needed(timeframe: Timeframe, opening: int, wished: Iterable[Asked] = ()) -> int:
    """The first opening that all of it, and what is `wished`, is computed from, for candles from this opening on."""
    needs = [*NEEDS.values(), *map(_need, wished)]
    earlier = (reach(need, timeframe, timeframe.back(opening, need.ahead)) for need in needs)
    return min(reach(NEED, timeframe, opening), *earlier)


def readings(  # noqa: PLR0913  what it is computed from, and of what
    series: Series, columns: Columns, since: int, asked: Asked, *, daily: Columns | None = None, closed: bool = True
) -> Iterator[Reading]:
    """What one indicator says; the last candle is the forming one unless `closed`."""
    timeframe, need, name = TIMEFRAMES[series.timeframe], _need(asked), str(asked)
    place = max(0, int(np.searchsorted(columns.time, since)) - need.ahead)
    for part in parts(need, timeframe, columns, int(columns.time[place])):
        for opening, values in _values(asked, part, timeframe, daily):
            yield Reading(series, name, opening, values, closed)


def _need(asked: Asked) -> Need:
    return NEEDS.get(asked) or Need((asked,), ahead=ahead(asked))


def _values(asked: Asked, part: Part, timeframe: Timeframe, daily: Columns | None) -> Iterator[tuple[int, Values]]:
    openings = part.columns.time[part.first : part.end].tolist()
    if CATALOG[asked.name].levels:
        for place, opening in zip(part.places(), openings, strict=True):
            known = part.columns.between(0, place + 1)
            yield opening, named(levels(asked, known, timeframe, daily), float(known.close[-1]))
        return
    said = compute(asked, part.columns, timeframe)
    lines = [column[part.first : part.end].tolist() for column in said.values()]
    for opening, *values in zip(openings, *lines, strict=True):
        yield opening, {name: None if isnan(value) else value for name, value in zip(said, values, strict=True)}


def named(found: list[Level], close: float) -> Values:
    """Levels by name. Of those with one name the nearest to the close: `support`, `support_2`, `support_3`. `missing`
    counts the candles that are missing of those that pivot points are made of.
    """
    values: Values = {}
    if found and (missing := found[0].known.get("missing")):
        values["missing"] = missing
    counts: dict[str, int] = {}
    for level in sorted(found, key=lambda each: abs(each.price - close)):
        counts[level.name] = number = counts.get(level.name, 0) + 1
        if number <= LEVELS:
            values[level.name if number == 1 else f"{level.name}_{number}"] = level.price
    return values


def asked_for(
    series: Series, columns: Columns, since: int, wished: Iterable[Asked], daily: Columns | None = None
) -> list[Reading]:
    """What these indicators say of closed candles with openings from `since` on."""
    return [reading for asked in wished for reading in readings(series, columns, since, asked, daily=daily)]


def formed(
    series: Series, columns: Columns, candle: Columns, wanted: Iterable[Asked], daily: Columns | None = None
) -> list[Reading]:
    """What these indicators say at the forming candle, which follows on the closed ones."""
    opening = int(candle.time[0])
    whole = Columns(*(np.append(old, new) for old, new in zip(columns, candle, strict=True)))
    found = (
        reading for asked in wanted for reading in readings(series, whole, opening, asked, daily=daily, closed=False)
    )
    return [reading for reading in found if reading.timestamp == opening]
