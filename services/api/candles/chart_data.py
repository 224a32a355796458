"""`/api/chart-data`."""

from itertools import islice
from typing import NamedTuple

from services.api.backfill_status import BackfillStatus, LoadingStatus
from services.api.candles import candle_query, chart_json, schemas
from services.api.candles.answers import CLOSED_MS, FORMING_MS, Ready, headers
from services.api.candles.candle_page_cache import CandlePageCache, is_final
from services.api.candles.partial_candles import PartialCandle, build_partials
from services.api.candles.symbol_catalog import SymbolCatalog
from services.core import ranges
from services.core.model import Candle, Series
from services.core.timeframes import Timeframe
from services.ports import Deps
from services.web import CachedResponse


class _ChartRequest(NamedTuple):
    series: Series
    timeframe: Timeframe
    period: candle_query.CandleRange
    fill: str
    partial: bool


class ChartDataHandler:
    """Answers to `/api/chart-data`."""

    def __init__(self, deps: Deps, listing: SymbolCatalog, pages: CandlePageCache, backfill: BackfillStatus) -> None:
        self._listing, self._pages, self._backfill = listing, pages, backfill
        self._store, self._reader, self._now = deps.store, pages.reader, deps.clock.now

    async def build(self, query: bytes) -> Ready:
        """The answer to a query string. Raises KursError."""
        now = self._now()
        question = await self._understood(query, now)
        series, period = question.series, question.period
        changes = self._pages.versions[series]
        candles = await self._candles(question)
        loading = await self._loading(question, candles)
        parts = await self._partials(question, candles) if question.partial else []
        candles = _merge_partials(period, candles, parts) if parts else candles
        slots = await self._fill(question, candles) if question.fill != "none" else candles
        closed = is_final(question.timeframe, period.until, now) and loading is None and not parts
        changed = changes != self._pages.versions[series]  # what was read may be old already
        lasts = CLOSED_MS if closed and not changed else FORMING_MS
        since = period.since if period.since is not None else candles[0].bar.open_time if candles else 0
        body = chart_json.chart_body(str(series.instrument), series.timeframe, slots, loading)
        return Ready(
            series, since, period.until, lasts, CachedResponse(body, headers(series.exchange, closed), compress=True)
        )

    async def _understood(self, query: bytes, now: int) -> _ChartRequest:
        words = candle_query.params(query, schemas.ChartQuestion)
        symbol, timeframe = candle_query.single(words, "symbol", "BTCUSDT"), candle_query.timeframe(words)
        series = await self._listing.series(symbol, candle_query.single(words, "exchange"), timeframe.name)
        return _ChartRequest(
            series,
            timeframe,
            candle_query.candle_range(words, now),
            candle_query.fill(words),
            candle_query.flag(words, "partial"),
        )

    async def _candles(self, question: _ChartRequest) -> list[Candle]:
        series, (since, until, limit) = question.series, question.period
        if since is None:
            return await self._reader.latest(series, until, limit or candle_query.MAX_CANDLES)
        if limit:
            return await self._reader.between(series, since, until, limit)
        candle_query.check_range(question.timeframe, since, until)
        return await self._pages.candles(series, since, until)

    async def _loading(self, question: _ChartRequest, candles: list[Candle]) -> LoadingStatus | None:
        """What is to be said of candles that are not there yet."""
        since, until, limit = question.period
        limit = limit or (candle_query.MAX_CANDLES if since is None else None)
        forming = sum(not candle.closed for candle in candles)
        return await self._backfill.check(
            question.series,
            (since, until, limit and limit - forming),
            lambda first: sum(candle.closed and candle.bar.open_time >= first for candle in candles),
        )

    async def _partials(self, question: _ChartRequest, candles: list[Candle]) -> list[PartialCandle]:
        """What is known of those that are missing where the answer may have them."""
        timeframe, (since, until, limit) = question.timeframe, question.period
        last = timeframe.open_time(min(until, self._reader.forming_since(question.series) - 1))
        if since is None:
            first = timeframe.step_back(last, (limit or candle_query.MAX_CANDLES) - 1)
            first = min(first, candles[0].bar.open_time) if candles else first
        else:
            first = next(timeframe.open_times(since, until), last + 1)
            last = candles[-1].bar.open_time if len(candles) == limit else last
        kept = ranges.from_open_times(timeframe, (candle.bar.open_time for candle in candles))
        missing = ranges.subtract(timeframe, [(first, last)], kept) if first <= last else []
        return await build_partials(self._store, question.series, missing)

    async def _fill(self, question: _ChartRequest, candles: list[Candle]) -> list[Candle | chart_json.MissingCandle]:
        """With a slot for each closed opening, as far as the candles go if a limit ended them."""
        timeframe, (since, until, limit) = question.timeframe, question.period
        most, last = limit or candle_query.MAX_CANDLES, min(until, timeframe.open_time(self._now()) - 1)
        if since is not None and len(candles) == limit:
            last = candles[-1].bar.open_time
        first = timeframe.step_back(timeframe.open_time(last), most - 1) if since is None else since
        before = next(iter(await self._reader.latest(question.series, first - 1, 1)), None)
        if before is None:  # years may lie before the first candle: nothing is said of them
            first = candles[0].bar.open_time if candles else last + 1
        openings = islice(timeframe.open_times(first, last), most)
        slots = chart_json.fill_missing(candles, openings, before, question.fill == "prev")
        slots += [candle for candle in candles if candle.bar.open_time > last]
        return slots[-most:] if since is None else slots[:most]


def _merge_partials(
    period: candle_query.CandleRange, candles: list[Candle], parts: list[PartialCandle]
) -> list[Candle]:
    """Both in their order, as many as the answer may have."""
    joined = sorted([*candles, *parts], key=lambda candle: candle.bar.open_time)
    most = period.limit or candle_query.MAX_CANDLES
    return joined[-most:] if period.since is None else joined[:most]
