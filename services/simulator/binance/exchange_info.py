"""Binance's exchangeInfo: symbols with their status and filters, and the rate limits."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from services.core.model import Instrument
from services.simulator.binance.payloads import format_fixed
from services.simulator.market.listings import BINANCE, DELISTED

RATE_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000},
]
ORDER_TYPES = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
SELF_TRADE_PREVENTION = ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"]
FLAGS = {
    "icebergAllowed": True,
    "ocoAllowed": True,
    "otoAllowed": True,
    "opoAllowed": True,
    "quoteOrderQtyMarketAllowed": True,
    "allowTrailingStop": True,
    "cancelReplaceAllowed": True,
    "amendAllowed": True,
    "pegInstructionsAllowed": True,
    "isSpotTradingAllowed": True,
    "isMarginTradingAllowed": True,
}


def exchange_info(now: int, names: Iterable[str], status: str | None) -> dict[str, Any]:
    """Return the response for these symbols, or for those of them with this status."""
    rows = [_symbol(name) for name in names]
    return {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": RATE_LIMITS,
        "exchangeFilters": [],
        "symbols": [row for row in rows if status in (None, row["status"])],
    }


def _symbol(name: str) -> dict[str, Any]:
    if name in DELISTED:
        return _row(name, DELISTED[name][0], "BREAK", (Decimal(1), Decimal("0.00001")))
    listing = BINANCE[name]
    return _row(name, listing.instrument, "TRADING", (listing.tick, listing.lot))


def _row(name: str, instrument: Instrument, status: str, steps: tuple[Decimal, Decimal]) -> dict[str, Any]:
    kinds = ("baseAsset", "quote", "quoteAsset", "baseCommission", "quoteCommission")
    return {
        "symbol": name,
        "status": status,
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        **{f"{kind}Precision": 8 for kind in kinds},
        "orderTypes": ORDER_TYPES,
        **FLAGS,
        "filters": _filters(*steps),
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": SELF_TRADE_PREVENTION,
    }


def _filters(tick: Decimal, lot: Decimal) -> list[dict[str, Any]]:
    step, size = format_fixed(tick), format_fixed(lot)
    multipliers = {
        "bidMultiplierUp": "5",
        "bidMultiplierDown": "0.2",
        "askMultiplierUp": "5",
        "askMultiplierDown": "0.2",
    }
    trailing = {
        f"{edge}Trailing{side}Delta": ms for edge, ms in (("min", 10), ("max", 2000)) for side in ("Above", "Below")
    }
    notional = {
        "minNotional": format_fixed(Decimal(5)),
        "applyMinToMarket": True,
        "maxNotional": format_fixed(Decimal(9_000_000)),
    }
    return [
        {"filterType": "PRICE_FILTER", "minPrice": step, "maxPrice": format_fixed(tick * 10**8), "tickSize": step},
        {"filterType": "LOT_SIZE", "minQty": size, "maxQty": format_fixed(lot * 9 * 10**8), "stepSize": size},
        {"filterType": "ICEBERG_PARTS", "limit": 100},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": format_fixed(Decimal(0)),
            "maxQty": format_fixed(lot * 10**7),
            "stepSize": format_fixed(Decimal(0)),
        },
        {"filterType": "TRAILING_DELTA", **trailing},
        {"filterType": "PERCENT_PRICE_BY_SIDE", **multipliers, "avgPriceMins": 5},
        {"filterType": "NOTIONAL", **notional, "applyMaxToMarket": False, "avgPriceMins": 5},
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
    ]
