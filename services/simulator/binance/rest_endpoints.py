"""Binance's REST endpoints with their weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

from services.simulator.binance import query_params, rest_history, tickers
from services.simulator.binance.exchange_info import exchange_info
from services.simulator.binance.query_params import Query
from services.simulator.rest_server import READ_METHODS
from services.simulator.simulation import Simulation


class RestEndpoint(NamedTuple):
    """An endpoint: its weight for a query, and its response."""

    weight: Callable[[Query], int]
    respond: Callable[[Simulation, Query], Any]


def _info(sim: Simulation, query: Query) -> Any:
    return exchange_info(sim.now(), query_params.symbols(query), query.get("symbolStatus"))


def _fixed_weight(weight: int) -> Callable[[Query], int]:
    return lambda query: weight


def _price_weight(query: Query) -> int:
    return 2 if "symbol" in query else 4


def _day_weight(query: Query) -> int:
    count = len(query_params.symbols(query)) if "symbol" in query or "symbols" in query else None
    return _step(((20, 2), (100, 40)), count, 80)


def _span_weight(query: Query) -> int:
    return min(4 * len(query_params.symbols(query)), 200) if "symbol" in query or "symbols" in query else 1


def _depth_weight(query: Query) -> int:
    return _step(((100, 5), (500, 25), (1000, 50)), query_params.limit(query, 100, 5000), 250)


def _step(steps: tuple[tuple[int, int], ...], count: int | None, last: int) -> int:
    """Return the weight of the first step that holds `count`."""
    return next((weight for max_count, weight in steps if count is not None and count <= max_count), last)


REST_ENDPOINTS = {
    "ping": RestEndpoint(_fixed_weight(1), lambda sim, query: {}),
    "time": RestEndpoint(_fixed_weight(1), lambda sim, query: {"serverTime": sim.now()}),
    "exchangeInfo": RestEndpoint(_fixed_weight(20), _info),
    "klines": RestEndpoint(_fixed_weight(2), rest_history.klines),
    "uiKlines": RestEndpoint(_fixed_weight(2), rest_history.klines),
    "aggTrades": RestEndpoint(_fixed_weight(4), rest_history.agg_trades),
    "trades": RestEndpoint(_fixed_weight(25), rest_history.trades),
    "historicalTrades": RestEndpoint(_fixed_weight(25), rest_history.historical_trades),
    "avgPrice": RestEndpoint(_fixed_weight(2), tickers.average),
    "depth": RestEndpoint(_depth_weight, tickers.depth),
    "ticker/price": RestEndpoint(_price_weight, tickers.price),
    "ticker/bookTicker": RestEndpoint(_price_weight, tickers.best_price),
    "ticker/24hr": RestEndpoint(_day_weight, tickers.day),
    "ticker/tradingDay": RestEndpoint(_span_weight, tickers.trading_day),
    "ticker": RestEndpoint(_span_weight, tickers.rolling),
}

# Endpoints that need an API key, with their methods.
SIGNED_METHODS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("account", "allOrders", "myTrades", "rateLimit/order", "account/commission"), READ_METHODS),
    "order": ("GET", "POST", "DELETE"),
    "openOrders": ("GET", "DELETE"),
    "order/test": ("POST",),
}
RETIRED = ("userDataStream",)  # since 2026-02-20


def allowed_methods(name: str) -> tuple[str, ...]:
    """Return the methods of an endpoint; () if it does not exist."""
    return READ_METHODS if name in REST_ENDPOINTS else SIGNED_METHODS.get(name, ())
