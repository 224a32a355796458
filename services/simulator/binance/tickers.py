"""Binance's tickers: last prices, best prices, windows and the order book."""

import re
from collections.abc import Callable
from typing import Any

from services.simulator.binance import query_params
from services.simulator.binance.payloads import (
    MINI_NAMES,
    average_price,
    book_levels,
    book_ticker,
    day_ticker,
    format_fixed,
    span_ticker,
)
from services.simulator.binance.query_params import Query
from services.simulator.binance.rest_history import tape_and_time
from services.simulator.fault_injection import InstrumentBody
from services.simulator.market.bar_columns import TapeTrade
from services.simulator.market.listings import DAY, DELISTED, HOUR, MINUTE
from services.simulator.market.order_book import OrderBook
from services.simulator.market.tape import Tape
from services.simulator.market.tape_candles import summary
from services.simulator.market.tape_quotes import TapeQuote, quote
from services.simulator.simulation import Simulation

ZERO = "0.00000000"
DELISTED_AT_MS = 1_706_598_000_000  # 2024-01-30
DAY_ONLY_FIELDS = ("prevClosePrice", "lastQty", "bidPrice", "bidQty", "askPrice", "askQty")
WINDOW_UNITS = {"m": (MINUTE, 59), "h": (HOUR, 23), "d": (DAY, 7)}  # in ms, and how many a window may have


def price(sim: Simulation, query: Query) -> Any:
    """Return last prices; that of a delisted symbol never changes."""

    def row(name: str) -> dict[str, Any]:
        if name in DELISTED:
            return {"symbol": name, "price": DELISTED[name][1]}
        tape, now = tape_and_time(sim, name)
        return {"symbol": name, "price": format_fixed(tape.listing.price(_last(tape, now).price))}

    return query_params.per_symbol(query, row)


def best_price(sim: Simulation, query: Query) -> Any:
    """Return best bid and ask; zeros for a delisted symbol."""

    def row(name: str) -> dict[str, Any]:
        values = [ZERO] * 4
        if name not in DELISTED:
            tape, now = tape_and_time(sim, name)
            ticker = book_ticker(tape.listing, _quote(tape, now))
            values = [ticker[letter] for letter in "bBaA"]
        return dict(zip(("symbol", "bidPrice", "bidQty", "askPrice", "askQty"), (name, *values), strict=True))

    return query_params.per_symbol(query, row)


def day(sim: Simulation, query: Query) -> Any:
    """Return the rolling day."""
    mini = _mini(query)

    def row(name: str) -> dict[str, Any]:
        if name in DELISTED:
            ticker = _frozen_day(name)
        else:
            tape, now = tape_and_time(sim, name)
            last, span = _last(tape, now), _span(tape, now, now - DAY + 1)
            ticker = day_ticker(span | {"openTime": now - DAY}, tape.listing, last, _quote(tape, now))
        return {key: ticker[key] for key in MINI_NAMES} if mini else ticker

    return query_params.per_symbol(query, row)


def rolling(sim: Simulation, query: Query) -> Any:
    """Return a window of any length. It opens with a minute, so it is up to a minute longer."""
    length = _window(query)
    return _each_span(sim, query, lambda now: ((now - length) // MINUTE * MINUTE, now))


def trading_day(sim: Simulation, query: Query) -> Any:
    """Return the current day in the requested time zone."""
    shift = query_params.time_zone(query)

    def bounds(now: int) -> tuple[int, int]:
        opens = (now + shift) // DAY * DAY - shift
        return opens, opens + DAY - 1

    return _each_span(sim, query, bounds)


def average(sim: Simulation, query: Query) -> Any:
    """Return the volume-weighted average price of five minutes."""
    name = query_params.symbol(query)
    if name in DELISTED:
        return {"mins": 5, "price": DELISTED[name][1], "closeTime": DELISTED_AT_MS}
    tape, now = tape_and_time(sim, name)
    last, minutes = _last(tape, now), summary(tape, now - 5 * MINUTE, now + 1)
    mean = average_price(tape.listing, minutes, last)
    return InstrumentBody(tape.listing.instrument, {"mins": 5, "price": mean, "closeTime": last.time})


def depth(sim: Simulation, query: Query) -> Any:
    """Return the order book."""
    name, limit = query_params.symbol(query), query_params.limit(query, 100, 5000)
    if name in DELISTED:
        return {"lastUpdateId": 0, "bids": [], "asks": []}
    tape, now = tape_and_time(sim, name)
    return InstrumentBody(tape.listing.instrument, book_levels(OrderBook(tape, _quote(tape, now)), limit))


def _last(tape: Tape, now: int) -> TapeTrade:
    return tape.last_before(now + 1) or query_params.reject(-1000, "There was no trade yet.")


def _quote(tape: Tape, now: int) -> TapeQuote:
    return quote(tape, now) or query_params.reject(-1000, "There was no trade yet.")


def _each_span(sim: Simulation, query: Query, bounds: Callable[[int], tuple[int, int]]) -> Any:
    """Return a row of each symbol's trades within bounds that follow from the time."""
    if "symbol" not in query and "symbols" not in query:
        query_params.reject(-1102, "Param 'symbol' or 'symbols' must be sent, but both were empty/null!")
    mini = _mini(query)

    def row(name: str) -> dict[str, Any]:
        if name in DELISTED:
            opens, closes = bounds(sim.now())
            ticker = {key: value for key, value in _frozen_day(name).items() if key not in DAY_ONLY_FIELDS}
            ticker |= {"openTime": opens, "closeTime": closes}
        else:
            tape, now = tape_and_time(sim, name)
            opens, closes = bounds(now)
            ticker = _span(tape, now, opens) | {"closeTime": closes}
        return {key: ticker[key] for key in MINI_NAMES} if mini else ticker

    return query_params.per_symbol(query, row)


def _span(tape: Tape, now: int, opens: int) -> dict[str, Any]:
    return span_ticker(tape.listing, summary(tape, opens, now + 1), _last(tape, now), opens, now)


def _mini(query: Query) -> bool:
    if query.get("type", "FULL") not in ("FULL", "MINI"):
        query_params.reject(-1130, "Data sent for parameter 'type' is not valid.")
    return query.get("type") == "MINI"


def _window(query: Query) -> int:
    """Return the requested window (`15m`, `4h`, `7d`) in ms; a day by default."""
    window = re.fullmatch("([1-9][0-9]?)([mhd])", query.get("windowSize", "1d"))
    count, (unit, max_units) = (int(window[1]), WINDOW_UNITS[window[2]]) if window else (0, (0, 0))
    if not 0 < count <= max_units:
        query_params.reject(-1130, "Data sent for parameter 'windowSize' is not valid.")
    return count * unit


def _frozen_day(name: str) -> dict[str, Any]:
    """Return the day of a delisted symbol: its last price, no book, no volume, an old time."""
    nothing = "priceChange weightedAvgPrice lastQty bidPrice bidQty askPrice askQty volume quoteVolume"
    prices = "prevClosePrice lastPrice openPrice highPrice lowPrice"
    return {
        "symbol": name,
        "priceChangePercent": "0.000",
        **dict.fromkeys(nothing.split(), ZERO),
        **dict.fromkeys(prices.split(), DELISTED[name][1]),
        **{"openTime": DELISTED_AT_MS - DAY, "closeTime": DELISTED_AT_MS, "firstId": -1, "lastId": -1, "count": 0},
    }
