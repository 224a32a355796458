"""`/api/analysis` and `/api/analysis/{symbol}/multi`: the questions understood, the answers written out."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from services.api.analysis.latest_analysis import Newest
from services.api.analysis.schemas import AnalysisQuestion, MultiQuestion
from services.api.backfill_status import Backfill, Loading
from services.api.candles import candle_query
from services.api.candles.answers import headers
from services.api.candles.symbol_catalog import Listing
from services.core.analysis import DISCLAIMER, Analysis
from services.core.analysis.candle_view import LOOKED
from services.core.analysis.multi_timeframe import DEFAULT, Together, together, weight
from services.core.analysis.summary import summary, summed
from services.core.errors import unknown_name
from services.core.timeframes import TIMEFRAMES
from services.ports import Clock
from services.web import Kept

_encode = msgspec.json.Encoder(order="deterministic").encode  # PostgreSQL keeps no order within a dictionary


class _Addressed(MultiQuestion):
    """With what the path says."""

    symbol: str


class Answers:
    """Answers from the newest analyses."""

    def __init__(self, listing: Listing, newest: Newest, backfill: Backfill, clock: Clock) -> None:
        self._listing, self._newest, self._backfill, self._now = listing, newest, backfill, clock.now

    async def one(self, query: bytes) -> Kept:
        """The answer of `/api/analysis` to a query string. Raises KursError."""
        words = candle_query.words(query, AnalysisQuestion)
        symbol = await self._listing.find(
            candle_query.one(words, "symbol", "BTCUSDT"), candle_query.one(words, "exchange")
        )
        found = await self._newest.analysis(symbol.series(candle_query.timeframe(words).name))
        return _kept(symbol.exchange, _whole(found, await self._loading(found)))

    async def multi(self, query: bytes) -> Kept:
        """The answer of `/api/analysis/{symbol}/multi`; the query holds the symbol too. Raises KursError."""
        words = candle_query.words(query, _Addressed)
        names = words.get("timeframes", ()) or DEFAULT
        for name in names:
            if name not in TIMEFRAMES:
                raise unknown_name("timeframe", name, list(TIMEFRAMES))
        symbol = await self._listing.find(
            candle_query.one(words, "symbol", "BTCUSDT"), candle_query.one(words, "exchange")
        )
        ordered = [symbol.series(name) for name in TIMEFRAMES if name in names]
        found = await asyncio.gather(*(self._newest.analysis(series) for series in ordered))
        loading = [await self._loading(each) for each in found]
        return _kept(symbol.exchange, _summed(found, loading, together(found)))

    async def _loading(self, found: Analysis) -> Loading | None:
        """What is to be said of candles that are not there yet, of those that the rules look at."""
        return await self._backfill.check(found.series, (None, self._now(), LOOKED), lambda _: found.candles)


def _kept(exchange: str, body: dict[str, Any]) -> Kept:
    fields = {**body, "disclaimer": DISCLAIMER}
    text = b",".join(b'"%s":%s' % (name.encode(), _encode(value)) for name, value in fields.items())
    return Kept(b"{%s}" % text, headers(exchange, closed=False), packs=True)


def _whole(found: Analysis, loading: Loading | None) -> dict[str, Any]:
    rest = {name: getattr(found, name) for name in found.__struct_fields__ if name != "series"}
    series = found.series
    names = {"symbol": str(series.instrument), "exchange": series.exchange, "timeframe": series.timeframe}
    return {**names, **rest, **_told(loading), "summary": summary(found)}


def _summed(found: Sequence[Analysis], loading: Sequence[Loading | None], whole: Together) -> dict[str, Any]:
    series = found[0].series
    return {
        "symbol": str(series.instrument),
        "exchange": series.exchange,
        "trend": whole,
        "timeframes": [{**_row(each), **_told(some)} for each, some in zip(found, loading, strict=True)],
        "summary": summed(found, whole),
        **_told(_together(loading)),
    }


def _together(loading: Sequence[Loading | None]) -> Loading | None:
    """What is being loaded of all of them: until then the sum is one of those that are there."""
    some = [each for each in loading if each]
    reasons = (each.reason for each in some if each.reason)
    counts = sum(each.expected for each in some), sum(each.available for each in some)
    return Loading(*counts, next(reasons, None)) if some else None


def _told(loading: Loading | None) -> dict[str, Any]:
    return {"loading": loading._asdict()} if loading else {}


def _row(found: Analysis) -> dict[str, Any]:
    return {
        "timeframe": found.series.timeframe,
        "weight": weight(found),
        "timestamp": found.timestamp,
        "close": found.close,
        "direction": found.trend.direction,
        "strength": found.trend.strength,
        "signals": found.signals,
        "support": found.support_levels[0].price if found.support_levels else None,
        "resistance": found.resistance_levels[0].price if found.resistance_levels else None,
        "volatility": found.volatility,
        "notes": found.notes,
    }
