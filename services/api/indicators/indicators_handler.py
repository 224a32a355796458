"""`/api/indicators`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from services.api.backfill_status import LoadingStatus
from services.api.candles import candle_page_cache
from services.api.candles.candle_content import candle_content
from services.api.candles.candle_query import MAX_CANDLES, CandleRange, check_range
from services.api.components import ApiComponents
from services.api.indicators import schemas
from services.api.indicators.column_reader import MONTH_MS, CandleSlice
from services.api.indicators.indicator_service import LevelsAt
from services.api.indicators.output_columns import OutputColumns
from services.api.indicators.schemas import IndicatorsQuery
from services.core import indicators
from services.core.indicators import CATALOG, IndicatorSpec
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.web import CandleSpan, Content, Endpoint, UntilCandleChanges

INDICATORS = Endpoint(
    path="/api/indicators",
    aliases=("/v1/indicators",),
    query=IndicatorsQuery,
    response=schemas.Indicators,
    cache=UntilCandleChanges(max_entries=128),
    tag="indicators",
    operation_id="indicators",
    summary="Indicators beside their candles",
    description="Several at once, over up to 1,000 candles with open times in [from, to], the forming one included; "
    "without `from` the newest ones. A value does not depend on where the range begins: the earlier candles that it "
    "needs are read as well.",
)


class _IndicatorsRequest(NamedTuple):
    series: Series
    period: CandleRange
    specs: tuple[IndicatorSpec, ...]
    future: bool

    @property
    def timeframe(self) -> Timeframe:
        return TIMEFRAMES[self.series.timeframe]

    @property
    def last_needed(self) -> int:
        """The last open time whose candle the response can depend on."""
        return self.period.until + max(map(indicators.lookahead, self.specs)) * (self.timeframe.length or MONTH_MS)

    def first_needed(self, first: int) -> int:
        """Return the first open time that a response from `first` on depends on, if no candle is missing."""
        count = max(indicators.warmup(spec, self.timeframe, first) for spec in self.specs)
        return self.timeframe.step_back(first, min(count, self.timeframe.count_between(0, first)))


class IndicatorsHandler:
    """The handler of `/api/indicators`."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols, self._history, self._backfill = parts.symbols, parts.columns, parts.backfill
        self._service, self._pages, self._now = parts.indicators, parts.pages, parts.deps.clock.now

    @INDICATORS.handler
    async def indicators(self, query: IndicatorsQuery) -> Content:
        """Return the values of indicators. Raises KursError."""
        now = self._now()
        request = await self._request(query, now)
        series = request.series
        version = self._pages.versions[series]
        candles = await self._candles(request)
        results = await self._compute(request, candles)
        futures = await self._future_values(request, candles)
        loading = await self._loading(request, candles)
        trusted = candles.closed.size and all(each.trusted_from is None for each in results.values())
        since = request.first_needed(int(candles.columns.open_times[0])) if trusted else 0
        return candle_content(
            _indicators_body(series, candles, results, futures, loading),
            series.exchange,
            closed=candle_page_cache.is_final(request.timeframe, request.last_needed, now) and loading is None,
            changed=version != self._pages.versions[series],
            span=CandleSpan(series, since, request.last_needed),
        )

    async def _request(self, query: IndicatorsQuery, now: int) -> _IndicatorsRequest:
        series = (await self._symbols.find(query.symbol, query.exchange)).series(query.timeframe)
        specs = indicators.parse_specs(",".join(query.indicators))
        return _IndicatorsRequest(series, query.candle_range(now, query.limit), specs, query.future)

    async def _candles(self, request: _IndicatorsRequest) -> CandleSlice:
        series, (since, until, limit) = request.series, request.period
        if since is None:
            return await self._history.latest(series, until, limit or MAX_CANDLES)
        if limit:
            return (await self._history.following(series, since - 1, limit)).between(since, until)
        check_range(request.timeframe, since, until)
        return await self._history.between(series, since, until)

    async def _loading(self, request: _IndicatorsRequest, candles: CandleSlice) -> LoadingStatus | None:
        """Return how much of the range is still being loaded, or None."""
        forming = int(np.count_nonzero(~candles.closed))
        return await self._backfill.check(
            request.series,
            request.period.of_closed(forming),
            lambda first: int(np.count_nonzero(candles.closed & (candles.columns.open_times >= first))),
        )

    async def _compute(
        self, request: _IndicatorsRequest, candles: CandleSlice
    ) -> dict[IndicatorSpec, OutputColumns | LevelsAt]:
        """Return the outputs or levels of each indicator in the order of the request, without candles nothing."""
        series, open_times = request.series, candles.columns.open_times
        if not open_times.size:
            return {}
        with_outputs = [spec for spec in request.specs if not CATALOG[spec.name].has_levels]
        with_levels = [spec for spec in request.specs if CATALOG[spec.name].has_levels]
        outputs = await self._service.outputs(series, with_outputs, open_times)
        levels = await self._service.levels(series, with_levels, int(open_times[-1]))
        results: dict[IndicatorSpec, OutputColumns | LevelsAt] = {**outputs, **levels}
        return {spec: results[spec] for spec in request.specs}

    async def _future_values(
        self, request: _IndicatorsRequest, candles: CandleSlice
    ) -> dict[IndicatorSpec, OutputColumns]:
        """Return the outputs after the last candle, if they are requested."""
        if not request.future or not candles.columns.open_times.size:
            return {}
        return await self._service.future_outputs(request.series, request.specs, int(candles.columns.open_times[-1]))


def _indicators_body(
    series: Series,
    candles: CandleSlice,
    results: Mapping[IndicatorSpec, OutputColumns | LevelsAt],
    futures: Mapping[IndicatorSpec, OutputColumns],
    loading: LoadingStatus | None,
) -> bytes:
    loading_field = {"loading": loading._asdict()} if loading else {}
    open_times, timeframe = candles.columns.open_times.tolist(), TIMEFRAMES[series.timeframe]
    return msgspec.json.encode(
        {
            "symbol": str(series.instrument),
            "timeframe": series.timeframe,
            "timestamps": open_times,
            "closed": candles.closed.tolist(),
            "indicators": [
                _result_row(spec, result, futures.get(spec), timeframe, open_times) for spec, result in results.items()
            ],
            **loading_field,
        }
    )


def _result_row(
    spec: IndicatorSpec,
    result: OutputColumns | LevelsAt,
    future: OutputColumns | None,
    timeframe: Timeframe,
    open_times: Sequence[int],
) -> dict[str, Any]:
    if isinstance(result, OutputColumns):
        values: dict[str, Any] = {"outputs": _output_lists(result)}
        open_time = open_times[0]
    else:
        values = {"levels": [{"name": level.name, "price": level.price, **level.details} for level in result.levels]}
        open_time = open_times[-1]
    if future:
        values["future"] = {"timestamps": future.open_times.tolist(), "outputs": _output_lists(future)}
    return {
        "indicator": str(spec),
        "name": spec.name,
        "parameters": spec.params_by_name,
        "overlay": CATALOG[spec.name].overlay,
        **values,
        "warmup": indicators.warmup(spec, timeframe, open_time),
        "trusted_from": result.trusted_from,
    }


def _output_lists(columns: OutputColumns) -> dict[str, list[float]]:
    """Return the values by output. msgspec encodes NaN as null."""
    return {name: column.tolist() for name, column in columns.values.items()}
