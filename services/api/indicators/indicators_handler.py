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
from services.api.indicators.indicator_page_cache import IndicatorPageCache
from services.api.indicators.indicator_service import IndicatorService, LevelsAt
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
    "without `from` the newest ones. A value never depends on where the range begins: the history that it needs is "
    "read as well.",
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
        """The last opening whose candle the answer may be made of."""
        return self.period.until + max(map(indicators.lookahead, self.specs)) * (self.timeframe.length or MONTH_MS)

    def first_needed(self, first: int) -> int:
        """The first opening whose candle the answer from `first` on is made of, if none is missing."""
        count = max(indicators.warmup(each, self.timeframe, first) for each in self.specs)
        return self.timeframe.step_back(first, min(count, self.timeframe.count_between(0, first)))


class IndicatorsHandler:
    """Answers to `/api/indicators`."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols, self._history, self._backfill = parts.symbols, parts.columns, parts.backfill
        self._service = IndicatorService(parts.deps, parts.columns, IndicatorPageCache(parts.deps))
        self._pages, self._now = parts.pages, parts.deps.clock.now

    @INDICATORS.handler
    async def indicators(self, query: IndicatorsQuery) -> Content:
        """Return the values of indicators. Raises KursError."""
        now = self._now()
        request = await self._request(query, now)
        series = request.series
        version = self._pages.versions[series]
        past = await self._candles(request)
        results = await self._compute(request, past)
        futures = await self._future_values(request, past)
        loading = await self._loading(request, past)
        trusted = past.closed.size and all(each.trusted_from is None for each in results.values())
        since = request.first_needed(int(past.columns.open_times[0])) if trusted else 0
        return candle_content(
            _indicators_body(series, past, results, futures, loading),
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

    async def _loading(self, request: _IndicatorsRequest, past: CandleSlice) -> LoadingStatus | None:
        """What is to be said of candles that are not there yet."""
        since, until, limit = request.period
        limit = limit or (MAX_CANDLES if since is None else None)
        forming = int(np.count_nonzero(~past.closed))
        return await self._backfill.check(
            request.series,
            (since, until, limit and limit - forming),
            lambda first: int(np.count_nonzero(past.closed & (past.columns.open_times >= first))),
        )

    async def _compute(
        self, request: _IndicatorsRequest, past: CandleSlice
    ) -> dict[IndicatorSpec, OutputColumns | LevelsAt]:
        """What each indicator says, in the order in which they are asked for; nothing without candles."""
        time = past.columns.open_times
        if not time.size:
            return {}
        lines = [each for each in request.specs if not CATALOG[each.name].has_levels]
        levels = [each for each in request.specs if CATALOG[each.name].has_levels]
        found: dict[IndicatorSpec, OutputColumns | LevelsAt] = {
            **await self._service.outputs(request.series, lines, time)
        }
        found |= await self._service.levels(request.series, levels, int(time[-1]))
        return {each: found[each] for each in request.specs}

    async def _future_values(
        self, request: _IndicatorsRequest, past: CandleSlice
    ) -> dict[IndicatorSpec, OutputColumns]:
        """What is known of the openings after the last candle, if it is asked for."""
        if not request.future or not past.columns.open_times.size:
            return {}
        return await self._service.future_outputs(request.series, request.specs, int(past.columns.open_times[-1]))


def _indicators_body(
    series: Series,
    past: CandleSlice,
    results: Mapping[IndicatorSpec, OutputColumns | LevelsAt],
    futures: Mapping[IndicatorSpec, OutputColumns],
    loading: LoadingStatus | None,
) -> bytes:
    more = {"loading": loading._asdict()} if loading else {}
    time, timeframe = past.columns.open_times.tolist(), TIMEFRAMES[series.timeframe]
    return msgspec.json.encode(
        {
            "symbol": str(series.instrument),
            "timeframe": series.timeframe,
            "timestamps": time,
            "closed": past.closed.tolist(),
            "indicators": [
                _result_row(each, values, futures.get(each), timeframe, time) for each, values in results.items()
            ],
            **more,
        }
    )


def _result_row(
    spec: IndicatorSpec,
    result: OutputColumns | LevelsAt,
    future: OutputColumns | None,
    timeframe: Timeframe,
    open_times: Sequence[int],
) -> dict[str, Any]:
    known = CATALOG[spec.name]
    if isinstance(result, OutputColumns):
        said: dict[str, Any] = {"outputs": _output_lists(result)}
        opening = open_times[0]
    else:
        said = {"levels": [{"name": each.name, "price": each.price, **each.details} for each in result.levels]}
        opening = open_times[-1]
    if future:
        said["future"] = {"timestamps": future.open_times.tolist(), "outputs": _output_lists(future)}
    return {
        "indicator": str(spec),
        "name": spec.name,
        "parameters": spec.params_by_name,
        "overlay": known.overlay,
        **said,
        "warmup": indicators.warmup(spec, timeframe, opening),
        "trusted_from": result.trusted_from,
    }


def _output_lists(columns: OutputColumns) -> dict[str, list[float]]:
    """Values by output; msgspec writes null where a float is none."""
    return {name: column.tolist() for name, column in columns.values.items()}
