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
from services.api.indicators.output_columns import OutputColumns
from services.core.errors import Unavailable
from services.core.indicators import FORMULA_REVISION, IndicatorSpec
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps

MIN_TTL_SECONDS, MAX_TTL_SECONDS = 60, 300  # seconds that a page is kept
VERSION_TTL_SECONDS = 3600
WRITE_DELAY_SECONDS = 0.05  # until who asked has the answer
LITTLE_ENDIAN_DOUBLE = "<f8"
PageKey = tuple[IndicatorSpec, int]  # an indicator, and the first opening of a page


class _CachedPage(Struct):
    version: str
    trusted: int | None
    values: dict[str, bytes]  # a little-endian double for each opening, whether its candle is kept or not


class IndicatorPageCache:
    """The pages of every series."""

    def __init__(self, deps: Deps) -> None:
        self._cache, self._now, self._sleep = deps.cache, deps.clock.now, deps.clock.sleep
        self._outdated_series: set[Series] = set()  # others may not know yet
        self._save_tasks: set[asyncio.Task[None]] = set()
        self._decoder = msgspec.json.Decoder(_CachedPage)
        deps.hub.on_candle(self._on_candle)

    async def version(self, series: Series) -> str | None:
        """What the pages that hold are named by; None: the cache cannot tell."""
        name = f"indicators:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:version"
        try:
            if series in self._outdated_series:
                self._outdated_series.discard(series)
                await self._cache.set(name, str(self._now()).encode(), VERSION_TTL_SECONDS)
            return ((await self._cache.get(name))[0] or b"").decode()
        except Unavailable:
            self._outdated_series.add(series)
            return None

    async def get(
        self, series: Series, version: str, keys: Sequence[PageKey], open_times: NDArray[np.int64]
    ) -> dict[PageKey, OutputColumns]:
        """The pages that are kept, each as a line along those of the openings in `time` that it holds."""
        try:
            bodies = await self._cache.get(*_cache_keys(series, keys)) if keys else []
            kept = {place: self._decoder.decode(body) for place, body in zip(keys, bodies, strict=True) if body}
        except (Unavailable, msgspec.MsgspecError):
            return {}
        length = candle_page_cache.page_ms(series)
        found = {}
        for (asked, start), page in kept.items():
            if page.version == version:
                within = open_times[slice(*np.searchsorted(open_times, (start, start + length)))]
                slots = (within - start) // TIMEFRAMES[series.timeframe].length
                values = {
                    name: np.frombuffer(column, LITTLE_ENDIAN_DOUBLE)[slots] for name, column in page.values.items()
                }
                found[asked, start] = OutputColumns(within, values, page.trusted)
        return found

    def save_later(self, series: Series, version: str, columns_by_key: Iterable[tuple[PageKey, OutputColumns]]) -> None:
        """Keep these pages, unless a candle changed since. Nobody who asked has to wait for that."""
        if series not in self._outdated_series:
            task = asyncio.create_task(self._save(series, version, columns_by_key))
            self._save_tasks.add(task)
            task.add_done_callback(self._save_tasks.discard)

    async def _save(
        self, series: Series, version: str, columns_by_key: Iterable[tuple[PageKey, OutputColumns]]
    ) -> None:
        await self._sleep(WRITE_DELAY_SECONDS)
        timeframe = TIMEFRAMES[series.timeframe]
        seconds = min(max(timeframe.length // 1000, MIN_TTL_SECONDS), MAX_TTL_SECONDS)
        with suppress(Unavailable):  # then the next one computes it as well
            for place, line in columns_by_key:
                (key,) = _cache_keys(series, [place])
                await self._cache.set(key, _encode_page(version, place[1], line, timeframe), seconds)

    def _on_candle(self, candle: Candle) -> None:
        if candle.closed and candle_page_cache.is_final(
            TIMEFRAMES[candle.series.timeframe], candle.bar.open_time, self._now()
        ):
            self._outdated_series.add(candle.series)


def _cache_keys(series: Series, keys: Sequence[PageKey]) -> list[str]:
    root = f"indicators:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{FORMULA_REVISION}"
    return [f"{root}:{asked}:{start}" for asked, start in keys]


def _encode_page(version: str, start: int, columns: OutputColumns, timeframe: Timeframe) -> bytes:
    slots = (columns.open_times - start) // timeframe.length
    values = {}
    for name, column in columns.values.items():
        slotted = np.full(candle_page_cache.PAGE_CANDLES, np.nan, LITTLE_ENDIAN_DOUBLE)
        slotted[slots] = column
        values[name] = slotted.tobytes()
    return msgspec.json.encode(_CachedPage(version, columns.trusted_from, values))
