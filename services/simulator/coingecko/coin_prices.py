"""CoinGecko's prices: those of the market, updated once a minute."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services.simulator.coingecko import query_params
from services.simulator.coingecko.query_params import Query, pair
from services.simulator.market.listings import ASSETS, COINGECKO_CURRENCIES, COINS, DAY, MINUTE
from services.simulator.simulation import Simulation

PRICE_INTERVAL_MS = MINUTE
DAILY_TURNOVER = 0.02  # of all coins, in a day
MIN_WHOLE_PRICE = 10_000  # prices from here on come without decimals
FIAT_IDS = ("usd", "rub", "eur", "gbp", "cny")


def simple_price(sim: Simulation, query: Query) -> Any:
    """Return prices of coins in currencies. Unknown ones are left out."""
    currencies = [name for name in query_params.comma_list(query, "vs_currencies") if name in COINGECKO_CURRENCIES]
    return {coin: _coin_row(sim, query, coin, currencies) for coin in query_params.coins(query)}


def exchange_rates(sim: Simulation, query: Query) -> Any:
    """Return the price of one bitcoin in each currency."""
    at = sim.now() // PRICE_INTERVAL_MS * PRICE_INTERVAL_MS
    return {
        "rates": {
            currency: {
                "name": currency.upper(),
                "unit": currency.upper(),
                "value": round(price_in(sim, "bitcoin", currency, at), 3),
                "type": "fiat" if currency in FIAT_IDS else "crypto",
            }
            for currency in COINGECKO_CURRENCIES
        }
    }


def markets(sim: Simulation, query: Query) -> Any:
    """Return coins with their last day, by market cap."""
    currency = query_params.currency(query)
    wanted = query_params.coins(query) if "ids" in query else COINS
    rows = sorted((_market_row(sim, coin, currency) for coin in wanted), key=lambda row: -row["market_cap"])
    size, page = query_params.integer(query, "per_page", 100), query_params.integer(query, "page", 1)
    return rows[(page - 1) * size : page * size]


def price_in(sim: Simulation, coin: str, currency: str, at: int) -> float:
    """Return a coin's price at a time, with the active faults applied."""
    price = sim.market.price_in(COINS[coin][0], currency.upper(), at)
    wrong = sim.faults.find("coingecko", "price", pair(coin, currency))
    late = wrong is None or at < wrong.since // PRICE_INTERVAL_MS * PRICE_INTERVAL_MS
    return price if wrong is None or late else price * (1 + wrong.parameters["percent"] / 100)


def price_time(sim: Simulation, coin: str, currency: str) -> int:
    """Return the time of the price that is served: it moves once a minute, and not while a mute fault is active."""
    now = sim.faults.visible_time("coingecko", pair(coin, currency), sim.now(), polled=True)
    return now // PRICE_INTERVAL_MS * PRICE_INTERVAL_MS


def supply(coin: str) -> float:
    """Return the circulating supply in coins."""
    return ASSETS[COINS[coin][0]].supply


def _coin_row(sim: Simulation, query: Query, coin: str, currencies: list[str]) -> dict[str, Any]:
    times = {currency: price_time(sim, coin, currency) for currency in currencies}
    row = {key: value for each in times for key, value in _currency_fields(sim, query, coin, (each, times[each]))}
    if times and query_params.flag(query, "include_last_updated_at"):
        row["last_updated_at"] = min(times.values()) // 1000
    return row


def _currency_fields(sim: Simulation, query: Query, coin: str, view: tuple[str, int]) -> list[tuple[str, Any]]:
    """Return the fields of one currency."""
    currency, at = view
    price = price_in(sim, coin, currency, at)
    row: list[tuple[str, Any]] = [(currency, round_price(price, query_params.precision(query)))]
    if query_params.flag(query, "include_market_cap"):
        row.append((f"{currency}_market_cap", price * supply(coin)))
    if query_params.flag(query, "include_24hr_vol"):
        row.append((f"{currency}_24h_vol", price * supply(coin) * DAILY_TURNOVER))
    if query_params.flag(query, "include_24hr_change"):
        row.append((f"{currency}_24h_change", (price / price_in(sim, coin, currency, at - DAY) - 1) * 100))
    return row


def _market_row(sim: Simulation, coin: str, currency: str) -> dict[str, Any]:
    at = price_time(sim, coin, currency)
    asset, name = COINS[coin]
    day = [price_in(sim, coin, currency, at - DAY + hour * 60 * MINUTE) for hour in range(25)]
    updated = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": coin,
        "symbol": asset.lower(),
        "name": name,
        "current_price": round_price(day[-1], None),
        "market_cap": round(day[-1] * supply(coin)),
        "total_volume": round(day[-1] * supply(coin) * DAILY_TURNOVER),
        "high_24h": max(day),
        "low_24h": min(day),
        "price_change_24h": day[-1] - day[0],
        "last_updated": updated,
    }


def round_price(price: float, decimals: int | None) -> Decimal:
    """Round to so many decimals. With None a large price is whole, and others get two decimals or more."""
    exact = Decimal(repr(price))
    if decimals is None:
        decimals = 0 if exact >= MIN_WHOLE_PRICE else max(2, 2 - exact.adjusted())
    return round(exact, min(decimals, max(0, -int(exact.as_tuple().exponent))))
