"""Lines by pages of closed candles in the shared cache, so that what one replica computed the others need not.

A page says of which version of the series it is. Whoever hears that a candle changed which others may have computed
with begins a new version before it looks for a page again.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.indicators.output_columns import Line
from services.core.errors import Unavailable
from services.core.indicators import REVISION, Asked
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps

SHORTEST, LONGEST = 60, 300  # seconds that a page is kept
VERSION_SECONDS = 3600
LATER_SECONDS = 0.05  # until who asked has the answer
DOUBLE = "<f8"
Place = tuple[Asked, int]  # an indicator, and the first opening of a page


class _Page(Struct):
    version: str
    trusted: int | None
    values: dict[str, bytes]  # a little-endian double for each opening, whether its candle is kept or not


class Computed:
    """The pages of every series."""

    def __init__(self, deps: Deps) -> None:
        self._cache, self._now, self._sleep = deps.cache, deps.clock.now, deps.clock.sleep
        self._changed: set[Series] = set()  # others may not know yet
        self._keeping: set[asyncio.Task[None]] = set()
        self._read = msgspec.json.Decoder(_Page)
        deps.hub.on_candle(self._heard)

    async def version(self, series: Series) -> str | None:
        """What the pages that hold are named by; None: the cache cannot tell."""
        name = f"indicators:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:version"
        try:
            if series in self._changed:
                self._changed.discard(series)
                await self._cache.set(name, str(self._now()).encode(), VERSION_SECONDS)
            return ((await self._cache.get(name))[0] or b"").decode()
        except Unavailable:
            self._changed.add(series)
            return None

    async def get(
        self, series: Series, version: str, places: Sequence[Place], time: NDArray[np.int64]
    ) -> dict[Place, Line]:
        """The pages that are kept, each as a line along those of the openings in `time` that it holds."""
        try:
            bodies = await self._cache.get(*_keys(series, places)) if places else []
            kept = {place: self._read.decode(body) for place, body in zip(places, bodies, strict=True) if body}
        except (Unavailable, msgspec.MsgspecError):
            return {}
        length = candle_page_cache.page(series)
        found = {}
        for (asked, start), page in kept.items():
            if page.version == version:
                within = time[slice(*np.searchsorted(time, (start, start + length)))]
                slots = (within - start) // TIMEFRAMES[series.timeframe].length
                values = {name: np.frombuffer(column, DOUBLE)[slots] for name, column in page.values.items()}
                found[asked, start] = Line(within, values, page.trusted)
        return found

    def keep(self, series: Series, version: str, lines: Iterable[tuple[Place, Line]]) -> None:
        """Keep these pages, unless a candle changed since. Nobody who asked has to wait for that."""
        if series not in self._changed:
            task = asyncio.create_task(self._put(series, version, lines))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _put(self, series: Series, version: str, lines: Iterable[tuple[Place, Line]]) -> None:
        await self._sleep(LATER_SECONDS)
        timeframe = TIMEFRAMES[series.timeframe]
        seconds = min(max(timeframe.length // 1000, SHORTEST), LONGEST)
        with suppress(Unavailable):  # then the next one computes it as well
            for place, line in lines:
                (key,) = _keys(series, [place])
                await self._cache.set(key, _body(version, place[1], line, timeframe), seconds)

    def _heard(self, candle: Candle) -> None:
        if candle.closed and candle_page_cache.settled(
            TIMEFRAMES[candle.series.timeframe], candle.bar.timestamp, self._now()
        ):
            self._changed.add(candle.series)


def _keys(series: Series, places: Sequence[Place]) -> list[str]:
    root = f"indicators:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{REVISION}"
    return [f"{root}:{asked}:{start}" for asked, start in places]


def _body(version: str, start: int, line: Line, timeframe: Timeframe) -> bytes:
    slots = (line.time - start) // timeframe.length
    values = {}
    for name, column in line.values.items():
        slotted = np.full(candle_page_cache.PAGE, np.nan, DOUBLE)
        slotted[slots] = column
        values[name] = slotted.tobytes()
    return msgspec.json.encode(_Page(version, line.trusted, values))
