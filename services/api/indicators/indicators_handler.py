"""`/api/indicators`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from services.api.backfill_status import BackfillStatus, LoadingStatus
from services.api.candles import candle_page_cache
from services.api.candles import candle_query as candles_asked
from services.api.candles.answers import CLOSED_MS, FORMING_MS, Ready, headers
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.indicators.column_reader import MONTH_MS, CandleSlice, ColumnReader
from services.api.indicators.indicator_service import IndicatorService, LevelsAt
from services.api.indicators.output_columns import OutputColumns
from services.api.indicators.schemas import IndicatorsQuestion
from services.core import indicators
from services.core.indicators import CATALOG, IndicatorSpec
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps
from services.web import CachedResponse


class _IndicatorsRequest(NamedTuple):
    series: Series
    period: candles_asked.CandleRange
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

    def __init__(
        self,
        deps: Deps,
        listing: SymbolCatalog,
        history: ColumnReader,
        backfill: BackfillStatus,
        service: IndicatorService,
    ) -> None:
        self._listing, self._history, self._service, self._backfill = listing, history, service, backfill
        self._pages, self._now = history.pages, deps.clock.now

    async def build(self, query: bytes) -> Ready:
        """The answer to a query string. Raises KursError."""
        now = self._now()
        question = await self._parse(query, now)
        series = question.series
        changes = self._pages.versions[series]
        past = await self._candles(question)
        found = await self._compute(question, past)
        futures = await self._future_values(question, past)
        loading = await self._loading(question, past)
        closed = candle_page_cache.is_final(question.timeframe, question.last_needed, now) and loading is None
        changed = changes != self._pages.versions[series]  # what was read may be old already
        lasts = CLOSED_MS if closed and not changed else FORMING_MS
        trusted = past.closed.size and all(each.trusted_from is None for each in found.values())
        since = question.first_needed(int(past.columns.open_times[0])) if trusted else 0
        kept = CachedResponse(
            _indicators_body(series, past, found, futures, loading), headers(series.exchange, closed), compress=True
        )
        return Ready(series, since, question.last_needed, lasts, kept)

    async def _parse(self, query: bytes, now: int) -> _IndicatorsRequest:
        words = candles_asked.params(query, IndicatorsQuestion)
        symbol = await self._listing.find(
            candles_asked.single(words, "symbol", "BTCUSDT"), candles_asked.single(words, "exchange")
        )
        series = symbol.series(candles_asked.timeframe(words).name)
        asked = indicators.parse_specs(",".join(words.get("indicators", ())))
        return _IndicatorsRequest(
            series, candles_asked.candle_range(words, now), asked, candles_asked.flag(words, "future")
        )

    async def _candles(self, request: _IndicatorsRequest) -> CandleSlice:
        series, (since, until, limit) = request.series, request.period
        if since is None:
            return await self._history.latest(series, until, limit or candles_asked.MAX_CANDLES)
        if limit:
            return (await self._history.following(series, since - 1, limit)).between(since, until)
        candles_asked.check_range(request.timeframe, since, until)
        return await self._history.between(series, since, until)

    async def _loading(self, request: _IndicatorsRequest, past: CandleSlice) -> LoadingStatus | None:
        """What is to be said of candles that are not there yet."""
        since, until, limit = request.period
        limit = limit or (candles_asked.MAX_CANDLES if since is None else None)
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
