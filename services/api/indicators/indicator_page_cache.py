"""Pages of computed outputs in the shared cache, so that replicas need not compute the same again.

Each page carries the version of its series. A replica that receives a change of a closed candle, with which other
replicas may have computed pages, starts a new version before it reads pages again. Pages of older versions are ignored.
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
from services.ports import Cache, Clock

MIN_TTL_SECONDS, MAX_TTL_SECONDS = 60, 300
VERSION_TTL_SECONDS = 3600
WRITE_DELAY_SECONDS = 0.05  # until the client has its response
LITTLE_ENDIAN_DOUBLE = "<f8"
PageKey = tuple[IndicatorSpec, int]  # an indicator, and the first open time of a page


class _CachedPage(Struct):
    version: str
    trusted: int | None
    values: dict[str, bytes]  # by output, a little-endian double for each open time, NaN where the candle is missing


class IndicatorPageCache:
    """The pages of every series. `on_candle` is called with each candle that changes."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache, self._now, self._sleep = cache, clock.now, clock.sleep
        self._outdated_series: set[Series] = set()  # other replicas may use pages that a candle has outdated
        self._save_tasks: set[asyncio.Task[None]] = set()
        self._decoder = msgspec.json.Decoder(_CachedPage)

    async def version(self, series: Series) -> str | None:
        """Return the version of valid pages, a new one after a change. None if the cache is unavailable."""
        key = f"indicators:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:version"
        try:
            if series in self._outdated_series:
                self._outdated_series.discard(series)
                await self._cache.set(key, str(self._now()).encode(), VERSION_TTL_SECONDS)
            return ((await self._cache.get(key))[0] or b"").decode()
        except Unavailable:
            self._outdated_series.add(series)
            return None

    async def get(
        self, series: Series, version: str, keys: Sequence[PageKey], open_times: NDArray[np.int64]
    ) -> dict[PageKey, OutputColumns]:
        """Return the cached pages, each with the values at those of `open_times` that lie in it."""
        try:
            bodies = await self._cache.get(*_cache_keys(series, keys)) if keys else []
            pages = {key: self._decoder.decode(body) for key, body in zip(keys, bodies, strict=True) if body}
        except (Unavailable, msgspec.MsgspecError):
            return {}
        timeframe, page_ms = TIMEFRAMES[series.timeframe], candle_page_cache.page_ms(series)
        return {
            key: _to_outputs(page, key[1], page_ms, timeframe, open_times)
            for key, page in pages.items()
            if page.version == version
        }

    def save_later(self, series: Series, version: str, columns_by_key: Iterable[tuple[PageKey, OutputColumns]]) -> None:
        """Cache pages in a task, unless a candle changed since. No client has to wait for it."""
        if series not in self._outdated_series:
            task = asyncio.create_task(self._save(series, version, columns_by_key))
            self._save_tasks.add(task)
            task.add_done_callback(self._save_tasks.discard)

    async def _save(
        self, series: Series, version: str, columns_by_key: Iterable[tuple[PageKey, OutputColumns]]
    ) -> None:
        await self._sleep(WRITE_DELAY_SECONDS)
        timeframe = TIMEFRAMES[series.timeframe]
        ttl_seconds = min(max(timeframe.length // 1000, MIN_TTL_SECONDS), MAX_TTL_SECONDS)
        with suppress(Unavailable):  # the next replica computes the page as well
            for key, columns in columns_by_key:
                (cache_key,) = _cache_keys(series, [key])
                await self._cache.set(cache_key, _encode_page(version, key[1], columns, timeframe), ttl_seconds)

    def on_candle(self, candle: Candle) -> None:
        """Start a new version of a series whose closed candle other replicas may have used."""
        timeframe = TIMEFRAMES[candle.series.timeframe]
        if candle.closed and candle_page_cache.is_final(timeframe, candle.bar.open_time, self._now()):
            self._outdated_series.add(candle.series)


def _cache_keys(series: Series, keys: Sequence[PageKey]) -> list[str]:
    root = f"indicators:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{FORMULA_REVISION}"
    return [f"{root}:{spec}:{start}" for spec, start in keys]


def _to_outputs(
    page: _CachedPage, start: int, page_ms: int, timeframe: Timeframe, open_times: NDArray[np.int64]
) -> OutputColumns:
    within = open_times[slice(*np.searchsorted(open_times, (start, start + page_ms)))]
    slots = (within - start) // timeframe.length
    values = {name: np.frombuffer(column, LITTLE_ENDIAN_DOUBLE)[slots] for name, column in page.values.items()}
    return OutputColumns(within, values, page.trusted)


def _encode_page(version: str, start: int, columns: OutputColumns, timeframe: Timeframe) -> bytes:
    slots = (columns.open_times - start) // timeframe.length
    values = {}
    for name, column in columns.values.items():
        slotted = np.full(candle_page_cache.PAGE_CANDLES, np.nan, LITTLE_ENDIAN_DOUBLE)
        slotted[slots] = column
        values[name] = slotted.tobytes()
    return msgspec.json.encode(_CachedPage(version, columns.trusted_from, values))
