"""`/api/chart-data`."""

from itertools import islice
from typing import NamedTuple

from services.api.backfill_status import LoadingStatus
from services.api.candles import chart_json, schemas
from services.api.candles.candle_content import candle_content
from services.api.candles.candle_page_cache import is_final
from services.api.candles.candle_query import MAX_CANDLES, CandleRange, Fill, check_range
from services.api.candles.partial_candles import PartialCandle, build_partials
from services.api.candles.schemas import ChartQuery
from services.api.components import ApiComponents
from services.core import ranges
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.web import CandleSpan, Content, Endpoint, UntilCandleChanges

CHART_DATA = Endpoint(
    path="/api/chart-data",
    aliases=("/v1/chart-data",),
    query=ChartQuery,
    response=schemas.ChartData,
    cache=UntilCandleChanges(max_entries=128),
    tag="candles",
    operation_id="chart_data",
    summary="Candles",
    description="Up to 1,000 candles with open times in [from, to], the forming one included; without `from` the "
    "newest ones.",
)


class _ChartRequest(NamedTuple):
    series: Series
    timeframe: Timeframe
    period: CandleRange
    fill: Fill
    partial: bool


class ChartDataHandler:
    """Candles of one series."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols, self._pages, self._backfill = parts.symbols, parts.pages, parts.backfill
        self._store, self._reader, self._now = parts.deps.store, parts.candles, parts.deps.clock.now

    @CHART_DATA.handler
    async def chart_data(self, query: ChartQuery) -> Content:
        """Return the candles. Raises KursError."""
        now = self._now()
        request = await self._request(query, now)
        series, period = request.series, request.period
        version = self._pages.versions[series]
        candles = await self._candles(request)
        loading = await self._loading(request, candles)
        partials = await self._partials(request, candles) if request.partial else []
        candles = _merge_partials(period, candles, partials) if partials else candles
        slots = await self._fill(request, candles) if request.fill is not Fill.NONE else candles
        return candle_content(
            chart_json.chart_body(str(series.instrument), series.timeframe, slots, loading),
            series.exchange,
            closed=is_final(request.timeframe, period.until, now) and loading is None and not partials,
            changed=version != self._pages.versions[series],
            span=CandleSpan(series, _first_open_time(period, candles), period.until),
        )

    async def _request(self, query: ChartQuery, now: int) -> _ChartRequest:
        series = await self._symbols.series(query.symbol, query.exchange, query.timeframe)
        period = query.candle_range(now, query.limit)
        return _ChartRequest(series, TIMEFRAMES[query.timeframe], period, query.fill, query.partial)

    async def _candles(self, request: _ChartRequest) -> list[Candle]:
        series, (since, until, limit) = request.series, request.period
        if since is None:
            return await self._reader.latest(series, until, limit or MAX_CANDLES)
        if limit:
            return await self._reader.between(series, since, until, limit)
        check_range(request.timeframe, since, until)
        return await self._pages.candles(series, since, until)

    async def _loading(self, request: _ChartRequest, candles: list[Candle]) -> LoadingStatus | None:
        """Return the progress of the backfill while candles of the range are still to come."""
        forming = sum(not candle.closed for candle in candles)
        return await self._backfill.check(
            request.series,
            request.period.of_closed(forming),
            lambda first: sum(candle.closed and candle.bar.open_time >= first for candle in candles),
        )

    async def _partials(self, request: _ChartRequest, candles: list[Candle]) -> list[PartialCandle]:
        """Return partial candles for the missing ones in the response's range."""
        timeframe, (since, until, limit) = request.timeframe, request.period
        last = timeframe.open_time(min(until, self._reader.forming_since(request.series) - 1))
        if since is None:
            first = timeframe.step_back(last, (limit or MAX_CANDLES) - 1)
            first = min(first, candles[0].bar.open_time) if candles else first
        else:
            first = next(timeframe.open_times(since, until), last + 1)
            last = candles[-1].bar.open_time if len(candles) == limit else last
        stored = ranges.from_open_times(timeframe, (candle.bar.open_time for candle in candles))
        missing = ranges.subtract(timeframe, [(first, last)], stored) if first <= last else []
        return await build_partials(self._store, request.series, missing)

    async def _fill(self, request: _ChartRequest, candles: list[Candle]) -> list[Candle | chart_json.MissingCandle]:
        """Return a slot for each closed open time; where the limit cut the candles off, up to the last one."""
        timeframe, (since, until, limit) = request.timeframe, request.period
        max_candles, last = limit or MAX_CANDLES, min(until, timeframe.open_time(self._now()) - 1)
        if since is not None and len(candles) == limit:
            last = candles[-1].bar.open_time
        first = timeframe.step_back(timeframe.open_time(last), max_candles - 1) if since is None else since
        before = next(iter(await self._reader.latest(request.series, first - 1, 1)), None)
        if before is None:  # there may be years before the first candle: they are left out
            first = candles[0].bar.open_time if candles else last + 1
        openings = islice(timeframe.open_times(first, last), max_candles)
        slots = chart_json.fill_missing(candles, openings, before, request.fill is Fill.PREV)
        slots += [candle for candle in candles if candle.bar.open_time > last]
        return slots[-max_candles:] if since is None else slots[:max_candles]


def _first_open_time(period: CandleRange, candles: list[Candle]) -> int:
    if period.since is not None:
        return period.since
    return candles[0].bar.open_time if candles else 0


def _merge_partials(period: CandleRange, candles: list[Candle], parts: list[PartialCandle]) -> list[Candle]:
    """Return both in the order of time, as many as the response may have."""
    joined = sorted([*candles, *parts], key=lambda candle: candle.bar.open_time)
    max_candles = period.limit or MAX_CANDLES
    return joined[-max_candles:] if period.since is None else joined[:max_candles]
