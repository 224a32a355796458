"""CoinGecko's charts: candles, and series of points."""

from datetime import UTC, datetime
from typing import Any, NoReturn

import numpy as np

from services.simulator.coingecko import query_params
from services.simulator.coingecko.coin_prices import DAILY_TURNOVER, supply
from services.simulator.coingecko.query_params import Query
from services.simulator.market.listings import COINS, DAY, HOUR, MINUTE
from services.simulator.market.shapes import SLICE_MS, Ints
from services.simulator.rest_server import ApiError
from services.simulator.simulation import Simulation

MAX_DAYS = 365  # of history, without a paid plan
CANDLE_LENGTHS_MS = {1: HOUR // 2, 7: 4 * HOUR, 14: 4 * HOUR, 30: 4 * HOUR, 90: 4 * DAY, 180: 4 * DAY, 365: 4 * DAY}
INTERVALS_MS = {"hourly": HOUR, "daily": DAY}
RANGE_ERROR = (
    "Your request exceeds the allowed time range. Public API users are limited to querying historical data within the "
    "past 365 days."
)


def ohlc(sim: Simulation, query: Query, coin: str) -> Any:
    """Return candles without volume. The time is the END of each; they change every quarter of an hour."""
    currency, days = query_params.currency(query), query_params.integer(query, "days", 0)
    if days not in CANDLE_LENGTHS_MS:
        query_params.reject("Invalid days parameter")
    length = CANDLE_LENGTHS_MS[days]
    last = sim.now() // (15 * MINUTE) * (15 * MINUTE) // length * length
    every = max(SLICE_MS, length // 96)
    rows = []
    for end in range(last - days * DAY + length, last + 1, length):
        prices = _prices(sim, coin, currency, np.arange(end - length, end, every))
        rows.append([end, prices[0], max(prices), min(prices), prices[-1]])
    return rows


def market_chart(sim: Simulation, query: Query, coin: str) -> Any:
    """Return prices, market caps and volumes of the last days; the last point is now."""
    currency, days = query_params.currency(query), query_params.integer(query, "days", 0)
    if query.get("days") == "max" or days > MAX_DAYS:
        _reject_range(sim)
    if not days:
        query_params.reject("Missing parameter days")
    now = sim.now() // (MINUTE // 2) * (MINUTE // 2)
    step = INTERVALS_MS.get(query.get("interval", "")) or _chart_step(days)
    return _chart(sim, coin, currency, np.append(np.arange((now - days * DAY) // step * step + step, now, step), now))


def market_chart_range(sim: Simulation, query: Query, coin: str) -> Any:
    """Return prices, market caps and volumes between two times, given in seconds."""
    currency = query_params.currency(query)
    start, end = (query_params.integer(query, name, 0) * 1000 for name in ("from", "to"))
    if not 0 < start <= end:
        query_params.reject("Missing parameter from or to")
    if start < sim.now() - (MAX_DAYS + 1) * DAY:
        _reject_range(sim)
    step = _chart_step(-(-(end - start) // DAY))
    return _chart(sim, coin, currency, np.arange(-(-start // step) * step, min(end, sim.now()) + 1, step))


def _chart(sim: Simulation, coin: str, currency: str, times: Ints) -> dict[str, Any]:
    points = list(zip(times.tolist(), _prices(sim, coin, currency, times), strict=True))
    return {
        "prices": points,
        "market_caps": [(at, price * supply(coin)) for at, price in points],
        "total_volumes": [(at, price * supply(coin) * DAILY_TURNOVER) for at, price in points],
    }


def _prices(sim: Simulation, coin: str, currency: str, times: Ints) -> list[float]:
    return sim.market.prices_in(COINS[coin][0], currency.upper(), times).tolist() if len(times) else []


def _chart_step(days: int) -> int:
    """Return the distance of a chart's points, in ms."""
    return 5 * MINUTE if days <= 1 else HOUR if days <= 90 else DAY


def _reject_range(sim: Simulation) -> NoReturn:
    now = datetime.fromtimestamp(sim.now() / 1000, UTC).isoformat(timespec="milliseconds")
    raise ApiError(401, {"error": {"status": {"timestamp": now, "error_code": 10012, "error_message": RANGE_ERROR}}})
