"""Current prices for TradingView's watch lists. Values that are not known now are left out."""

from decimal import Decimal
from typing import Any

import msgspec

from services.api.candles.served_candles import ServedCandles
from services.api.candles.symbol_catalog import CatalogSymbol, SymbolCatalog
from services.core.decimals import format_decimal
from services.core.errors import UnknownName
from services.core.model import Bar, Candle, Leg
from services.core.timeframes import TIMEFRAMES
from services.hub import Hub
from services.ports import Clock

DAILY_TIMEFRAME = "1d"
PERCENT_STEP = Decimal("0.0001")


class UdfQuotes:
    """Quotes by name."""

    def __init__(self, *, symbols: SymbolCatalog, reader: ServedCandles, hub: Hub, clock: Clock) -> None:
        self._symbols, self._reader, self._hub, self._clock = symbols, reader, hub, clock

    async def quote(self, name: str) -> dict[str, Any]:
        """Return the quote of a symbol, or the error for a name that does not exist. Raises Unavailable."""
        try:
            symbol = await self._symbols.find(name)
        except UnknownName as error:
            return {"s": "error", "n": name, "v": {}, "errmsg": str(error)}
        leg = self._leg(symbol)
        last = await self._last_price(symbol, leg)
        yesterday, today = await self._days(symbol)
        exchange = symbol.exchange.upper()
        names = {
            "short_name": str(symbol.instrument),
            "exchange": exchange,
            "original_name": f"{exchange}:{symbol.instrument}",
            "description": f"{symbol.instrument.base} in {symbol.instrument.quote}",
        }
        values = _numbers(last, leg, yesterday, today)
        numbers = {
            key: msgspec.Raw(format_decimal(value).encode()) for key, value in values.items() if value is not None
        }
        return {"s": "ok", "n": name, "v": {**names, **numbers}}

    def _leg(self, symbol: CatalogSymbol) -> Leg | None:
        """Return the exchange's newest price, if a direction uses it and it is fresh."""
        legs = [leg for rate in self._hub.rates.values() for offer in rate.candidates for leg in offer.legs]
        key, now = (symbol.exchange, symbol.instrument), self._clock.monotonic()
        fresh = [leg for leg in legs if (leg.exchange, leg.instrument) == key and leg.expires >= now]
        return max(fresh, key=lambda leg: leg.confirmed, default=None)

    async def _last_price(self, symbol: CatalogSymbol, leg: Leg | None) -> Decimal | None:
        """Return the close of a candle that forms or has just closed, or an index price without bid and ask."""
        timeframe = TIMEFRAMES[symbol.timeframes[0]]
        newest = await self._candles(symbol, timeframe.name, 1)
        if newest and newest[0].bar.open_time >= timeframe.step_back(timeframe.open_time(self._clock.now()), 1):
            return newest[0].bar.close
        return leg.value if leg and leg.bid is None and leg.ask is None else None

    async def _days(self, symbol: CatalogSymbol) -> tuple[Bar | None, Bar | None]:
        """Return the bars of yesterday and today, in UTC."""
        candles = await self._candles(symbol, DAILY_TIMEFRAME, 2) if DAILY_TIMEFRAME in symbol.timeframes else []
        today = TIMEFRAMES[DAILY_TIMEFRAME].open_time(self._clock.now())
        bars = {candle.bar.open_time: candle.bar for candle in candles}
        return bars.get(TIMEFRAMES[DAILY_TIMEFRAME].step_back(today, 1)), bars.get(today)

    async def _candles(self, symbol: CatalogSymbol, timeframe: str, count: int) -> list[Candle]:
        return await self._reader.latest(symbol.series(timeframe), self._clock.now(), count)


def _numbers(
    last: Decimal | None, leg: Leg | None, yesterday: Bar | None, today: Bar | None
) -> dict[str, Decimal | None]:
    values: dict[str, Decimal | None] = {"lp": last}
    if leg:
        values |= {"bid": leg.bid, "ask": leg.ask, "spread": leg.ask - leg.bid if leg.bid and leg.ask else None}
    if today:
        values |= {"open_price": today.open, "high_price": today.high, "low_price": today.low}
        values["volume"] = today.volume or None  # some exchanges send none
    if yesterday:
        values["prev_close_price"] = yesterday.close
    if yesterday and last is not None:
        change = last - yesterday.close
        values |= {"ch": change, "chp": (change * 100 / yesterday.close).quantize(PERCENT_STEP)}
    return values
