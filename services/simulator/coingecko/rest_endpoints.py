"""CoinGecko's endpoints."""

from collections.abc import Callable
from typing import Any

from services.simulator.coingecko import coin_charts, coin_prices, query_params
from services.simulator.coingecko.query_params import Query
from services.simulator.fault_injection import PayloadFields
from services.simulator.market.listings import COINGECKO_CURRENCIES, COINS
from services.simulator.rest_server import ApiError
from services.simulator.simulation import Simulation

PAYLOAD_FIELDS = PayloadFields(
    "coingecko", times={"last_updated_at": 0, "t": 0}, prices=frozenset({"p"}), states=frozenset({"type", "c"})
)


def _coins_list(sim: Simulation, query: Query) -> Any:
    platforms: dict[str, Any] = {"platforms": {}} if query_params.flag(query, "include_platform") else {}
    return [{"id": coin, "symbol": asset.lower(), "name": name, **platforms} for coin, (asset, name) in COINS.items()]


REST_ENDPOINTS: dict[str, Callable[[Simulation, Query], Any]] = {
    "ping": lambda sim, query: {"gecko_says": "(V3) To the Moon!"},
    "simple/price": coin_prices.simple_price,
    "simple/supported_vs_currencies": lambda sim, query: list(COINGECKO_CURRENCIES),
    "exchange_rates": coin_prices.exchange_rates,
    "coins/list": _coins_list,
    "coins/markets": coin_prices.markets,
}
COIN_ENDPOINTS: dict[str, Callable[[Simulation, Query, str], Any]] = {
    "ohlc": coin_charts.ohlc,
    "market_chart": coin_charts.market_chart,
    "market_chart/range": coin_charts.market_chart_range,
}


def call_endpoint(sim: Simulation, query: Query, path: str) -> Any:
    """Return the body of the endpoint at `path`."""
    if path in REST_ENDPOINTS:
        return REST_ENDPOINTS[path](sim, query)
    return _coin_endpoint(path)(sim, query)


def _coin_endpoint(path: str) -> Callable[[Simulation, Query], Any]:
    """Return the endpoint of a path such as `coins/<id>/ohlc`."""
    coins, coin, topic = (*path.split("/", 2), "", "")[:3]
    if coins != "coins" or topic not in COIN_ENDPOINTS:
        raise ApiError(404, {"error": "Incorrect path. Please check https://www.coingecko.com/api/"})
    if coin not in COINS:
        raise ApiError(404, {"error": "coin not found"})
    return lambda sim, query: COIN_ENDPOINTS[topic](sim, query, coin)
