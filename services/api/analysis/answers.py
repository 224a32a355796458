"""`/api/analysis` and `/api/analysis/{symbol}/multi`: the questions understood, the answers written out."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from services.api.analysis.newest import Newest
from services.api.candles import asked
from services.api.candles.answers import headers
from services.api.candles.listing import Listing
from services.core.analysis import DISCLAIMER, Analysis
from services.core.analysis.several import DEFAULT, Together, together, weight
from services.core.analysis.summary import summary, summed
from services.core.errors import unknown_name
from services.core.timeframes import TIMEFRAMES
from services.web import Kept

_encode = msgspec.json.Encoder(order="deterministic").encode  # PostgreSQL keeps no order within a dictionary


class Answers:
    """Answers from the newest analyses."""

    def __init__(self, listing: Listing, newest: Newest) -> None:
        self._listing, self._newest = listing, newest

    async def one(self, query: bytes) -> Kept:
        """The answer of `/api/analysis` to a query string. Raises KursError."""
        words = asked.words(query)
        symbol = await self._listing.find(asked.one(words, "symbol", "BTCUSDT"), asked.one(words, "exchange"))
        found = await self._newest.analysis(symbol.series(asked.timeframe(words).name))
        return _kept(symbol.exchange, _whole(found))

    async def multi(self, query: bytes) -> Kept:
        """The answer of `/api/analysis/{symbol}/multi`; the query holds the symbol too. Raises KursError."""
        words = asked.words(query)
        names = words.get("timeframes", ()) or DEFAULT
        for name in names:
            if name not in TIMEFRAMES:
                raise unknown_name("timeframe", name, list(TIMEFRAMES))
        symbol = await self._listing.find(asked.one(words, "symbol", "BTCUSDT"), asked.one(words, "exchange"))
        ordered = [symbol.series(name) for name in TIMEFRAMES if name in names]
        found = await asyncio.gather(*(self._newest.analysis(series) for series in ordered))
        return _kept(symbol.exchange, _summed(found, together(found)))


def _kept(exchange: str, body: dict[str, Any]) -> Kept:
    fields = {**body, "disclaimer": DISCLAIMER}
    text = b",".join(b'"%s":%s' % (name.encode(), _encode(value)) for name, value in fields.items())
    return Kept(b"{%s}" % text, headers(exchange, closed=False), packs=True)


def _whole(found: Analysis) -> dict[str, Any]:
    rest = {name: getattr(found, name) for name in found.__struct_fields__ if name != "series"}
    series = found.series
    names = {"symbol": str(series.instrument), "exchange": series.exchange, "timeframe": series.timeframe}
    return {**names, **rest, "summary": summary(found)}


def _summed(found: Sequence[Analysis], whole: Together) -> dict[str, Any]:
    series = found[0].series
    return {
        "symbol": str(series.instrument),
        "exchange": series.exchange,
        "trend": whole,
        "timeframes": [_row(each) for each in found],
        "summary": summed(found, whole),
    }


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
