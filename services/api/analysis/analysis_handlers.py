"""`/api/analysis` and `/api/analysis/{symbol}/multi`: the questions understood, the answers written out."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from services.api.analysis.latest_analysis import LatestAnalysis
from services.api.analysis.schemas import AnalysisQuestion, MultiQuestion
from services.api.backfill_status import BackfillStatus, LoadingStatus
from services.api.candles import candle_query
from services.api.candles.answers import headers
from services.api.candles.symbol_catalog import SymbolCatalog
from services.core.analysis import DISCLAIMER, Analysis
from services.core.analysis.candle_view import ANALYSED_CANDLES
from services.core.analysis.multi_timeframe import DEFAULT_TIMEFRAMES, CombinedTrend, combine_trends, weight
from services.core.analysis.summary import combined_summary_text, summary_text
from services.core.errors import unknown_name
from services.core.timeframes import TIMEFRAMES
from services.ports import Clock
from services.web import CachedResponse

_encode = msgspec.json.Encoder(order="deterministic").encode  # PostgreSQL keeps no order within a dictionary


class _SymbolMultiQuestion(MultiQuestion):
    """With what the path says."""

    symbol: str


class AnalysisHandlers:
    """Answers from the newest analyses."""

    def __init__(self, listing: SymbolCatalog, latest: LatestAnalysis, backfill: BackfillStatus, clock: Clock) -> None:
        self._listing, self._latest, self._backfill, self._now = listing, latest, backfill, clock.now

    async def single(self, query: bytes) -> CachedResponse:
        """The answer of `/api/analysis` to a query string. Raises KursError."""
        words = candle_query.params(query, AnalysisQuestion)
        symbol = await self._listing.find(
            candle_query.single(words, "symbol", "BTCUSDT"), candle_query.single(words, "exchange")
        )
        found = await self._latest.get(symbol.series(candle_query.timeframe(words).name))
        return _cached_response(symbol.exchange, _analysis_body(found, await self._loading(found)))

    async def multi(self, query: bytes) -> CachedResponse:
        """The answer of `/api/analysis/{symbol}/multi`; the query holds the symbol too. Raises KursError."""
        words = candle_query.params(query, _SymbolMultiQuestion)
        names = words.get("timeframes", ()) or DEFAULT_TIMEFRAMES
        for name in names:
            if name not in TIMEFRAMES:
                raise unknown_name("timeframe", name, list(TIMEFRAMES))
        symbol = await self._listing.find(
            candle_query.single(words, "symbol", "BTCUSDT"), candle_query.single(words, "exchange")
        )
        ordered = [symbol.series(name) for name in TIMEFRAMES if name in names]
        found = await asyncio.gather(*(self._latest.get(series) for series in ordered))
        loading = [await self._loading(each) for each in found]
        return _cached_response(symbol.exchange, _multi_body(found, loading, combine_trends(found)))

    async def _loading(self, analysis: Analysis) -> LoadingStatus | None:
        """What is to be said of candles that are not there yet, of those that the rules look at."""
        return await self._backfill.check(
            analysis.series, (None, self._now(), ANALYSED_CANDLES), lambda _: analysis.candles
        )


def _cached_response(exchange: str, body: dict[str, Any]) -> CachedResponse:
    fields = {**body, "disclaimer": DISCLAIMER}
    text = b",".join(b'"%s":%s' % (name.encode(), _encode(value)) for name, value in fields.items())
    return CachedResponse(b"{%s}" % text, headers(exchange, closed=False), compress=True)


def _analysis_body(analysis: Analysis, loading: LoadingStatus | None) -> dict[str, Any]:
    fields = zip(analysis.__struct_encode_fields__, analysis.__struct_fields__, strict=True)
    rest = {key: getattr(analysis, name) for key, name in fields if name != "series"}
    series = analysis.series
    names = {"symbol": str(series.instrument), "exchange": series.exchange, "timeframe": series.timeframe}
    return {**names, **rest, **_loading_field(loading), "summary": summary_text(analysis)}


def _multi_body(
    analyses: Sequence[Analysis], loading: Sequence[LoadingStatus | None], combined: CombinedTrend
) -> dict[str, Any]:
    series = analyses[0].series
    return {
        "symbol": str(series.instrument),
        "exchange": series.exchange,
        "trend": combined,
        "timeframes": [
            {**_timeframe_row(each), **_loading_field(some)} for each, some in zip(analyses, loading, strict=True)
        ],
        "summary": combined_summary_text(analyses, combined),
        **_loading_field(_combined_loading(loading)),
    }


def _combined_loading(loading: Sequence[LoadingStatus | None]) -> LoadingStatus | None:
    """What is being loaded of all of them: until then the sum is one of those that are there."""
    some = [each for each in loading if each]
    reasons = (each.reason for each in some if each.reason)
    counts = sum(each.expected for each in some), sum(each.available for each in some)
    return LoadingStatus(*counts, next(reasons, None)) if some else None


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
