"""`/api/analysis` and `/api/analysis/{symbol}/multi`."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from services.api.analysis import schemas
from services.api.analysis.schemas import AnalysisQuery, MultiQuery
from services.api.backfill_status import LoadingStatus
from services.api.candles.candle_content import candle_content
from services.api.components import ApiComponents
from services.core.analysis import DISCLAIMER, Analysis
from services.core.analysis.candle_view import ANALYSED_CANDLES
from services.core.analysis.multi_timeframe import DEFAULT_TIMEFRAMES, CombinedTrend, combine_trends, weight
from services.core.analysis.summary import combined_summary_text, summary_text
from services.core.timeframes import TIMEFRAMES
from services.web import Content, Endpoint, Ttl

_encode = msgspec.json.Encoder(order="deterministic").encode  # PostgreSQL does not preserve the order of keys

ANALYSIS = Endpoint(
    path="/api/analysis",
    aliases=("/v1/analysis",),
    query=AnalysisQuery,
    response=schemas.Analysis,
    cache=Ttl(1_000, max_entries=128),
    tag="analysis",
    operation_id="analysis",
    summary="Analysis of a series",
    description="Trend, signals, levels and volatility of the closed candles by fixed rules, with the reasons. A "
    "description, not advice.",
)
ANALYSIS_MULTI = Endpoint(
    path="/api/analysis/{symbol}/multi",
    aliases=("/v1/analysis/{symbol}/multi",),
    query=MultiQuery,
    response=schemas.Multi,
    cache=Ttl(1_000, max_entries=128),
    tag="analysis",
    operation_id="analysis_multi",
    summary="Analysis of several timeframes",
    description="The weighted mean of the trends of several timeframes. Longer ones have a larger weight.",
)


class AnalysisHandlers:
    """The newest analysis of one series, and of several timeframes of a symbol."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols, self._backfill, self._now = parts.symbols, parts.backfill, parts.deps.clock.now
        self._latest = parts.analyses

    @ANALYSIS.handler
    async def single(self, query: AnalysisQuery) -> Content:
        """Return the analysis of one series. Raises KursError."""
        symbol = await self._symbols.find(query.symbol, query.exchange)
        analysis = await self._latest.get(symbol.series(query.timeframe))
        return _content(symbol.exchange, _analysis_body(analysis, await self._loading(analysis)))

    @ANALYSIS_MULTI.handler
    async def multi(self, query: MultiQuery) -> Content:
        """Return the combined trend of several timeframes. Raises KursError."""
        names = query.timeframes or DEFAULT_TIMEFRAMES
        symbol = await self._symbols.find(query.symbol, query.exchange)
        ordered = [symbol.series(name) for name in TIMEFRAMES if name in names]
        analyses = await asyncio.gather(*(self._latest.get(series) for series in ordered))
        loading = [await self._loading(each) for each in analyses]
        return _content(symbol.exchange, _multi_body(analyses, loading, combine_trends(analyses)))

    async def _loading(self, analysis: Analysis) -> LoadingStatus | None:
        """Return how many of the analysed candles are still being loaded, or None."""
        return await self._backfill.check(
            analysis.series, (None, self._now(), ANALYSED_CANDLES), lambda _: analysis.candles
        )


def _content(exchange: str, body: dict[str, Any]) -> Content:
    fields = {**body, "disclaimer": DISCLAIMER}
    text = b",".join(b'"%s":%s' % (name.encode(), _encode(value)) for name, value in fields.items())
    return candle_content(b"{%s}" % text, exchange, closed=False)


def _analysis_body(analysis: Analysis, loading: LoadingStatus | None) -> dict[str, Any]:
    fields = zip(analysis.__struct_encode_fields__, analysis.__struct_fields__, strict=True)
    body = {key: getattr(analysis, name) for key, name in fields if name != "series"}
    series = analysis.series
    names = {"symbol": str(series.instrument), "exchange": series.exchange, "timeframe": series.timeframe}
    return {**names, **body, **_loading_field(loading), "summary": summary_text(analysis)}


def _multi_body(
    analyses: Sequence[Analysis], loading: Sequence[LoadingStatus | None], combined: CombinedTrend
) -> dict[str, Any]:
    series = analyses[0].series
    return {
        "symbol": str(series.instrument),
        "exchange": series.exchange,
        "trend": combined,
        "timeframes": [
            {**_timeframe_row(each), **_loading_field(status)} for each, status in zip(analyses, loading, strict=True)
        ],
        "summary": combined_summary_text(analyses, combined),
        **_loading_field(_combined_loading(loading)),
    }


def _combined_loading(loading: Sequence[LoadingStatus | None]) -> LoadingStatus | None:
    """Return the sum of what is still being loaded of all timeframes, or None."""
    unfinished = [status for status in loading if status]
    if not unfinished:
        return None
    reason = next((status.reason for status in unfinished if status.reason), None)
    expected, available = sum(each.expected for each in unfinished), sum(each.available for each in unfinished)
    return LoadingStatus(expected, available, reason)


def _loading_field(loading: LoadingStatus | None) -> dict[str, Any]:
    return {"loading": loading._asdict()} if loading else {}


def _timeframe_row(analysis: Analysis) -> dict[str, Any]:
    return {
        "timeframe": analysis.series.timeframe,
        "weight": weight(analysis),
        "timestamp": analysis.open_time,
        "close": analysis.close,
        "direction": analysis.trend.direction,
        "strength": analysis.trend.strength,
        "signals": analysis.signals,
        "support": analysis.support_levels[0].price if analysis.support_levels else None,
        "resistance": analysis.resistance_levels[0].price if analysis.resistance_levels else None,
        "volatility": analysis.volatility,
        "notes": analysis.notes,
    }
