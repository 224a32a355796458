"""Binance's history endpoints: klines, aggregate trades and fills."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np

from services.simulator.binance import query_params
from services.simulator.binance.payloads import agg_trade, fills, format_fixed, kline_rows
from services.simulator.binance.query_params import Query
from services.simulator.market.bar_columns import TapeTrade
from services.simulator.market.listings import BINANCE, DELISTED, SimulatedListing
from services.simulator.market.tape import Tape, latest_trades, trades_between, trades_since
from services.simulator.market.tape_candles import LENGTHS_MS, candles, closing, opening, openings
from services.simulator.simulation import Simulation


def klines(sim: Simulation, query: Query) -> Any:
    """Return klines, the forming one included."""
    name = query_params.symbol(query)
    interval = query.get("interval") or query_params.reject_missing("interval")
    if interval not in LENGTHS_MS:
        query_params.reject(-1120, "Invalid interval.")
    limit, shift, length = query_params.limit(query, 500, 1000), query_params.time_zone(query), LENGTHS_MS[interval]
    start, end = query_params.time_ms(query, "startTime"), query_params.time_ms(query, "endTime")
    if name in DELISTED:
        return []
    tape, now = tape_and_time(sim, name)
    first = int(opening(length, np.array([tape.start]), shift)[0])  # no bar is earlier
    until = now if end is None else min(end, now)
    opens = openings(length, None if start is None else max(start, first), until, limit, shift)
    bars = candles(tape, length, opens, now, shift)
    lasts = (closing(length, opened, shift) - 1 for opened in bars.time.tolist())
    return kline_rows(tape.listing, bars, lasts)


def agg_trades(sim: Simulation, query: Query) -> Any:
    """Return aggregate trades from an id or a time on, or the newest."""
    name = query_params.symbol(query)
    limit = query_params.limit(query, 500, 1000)
    first, start, end = (
        query_params.integer(query, "fromId"),
        query_params.time_ms(query, "startTime"),
        query_params.time_ms(query, "endTime"),
    )
    if name in DELISTED:
        return []
    tape, now = tape_and_time(sim, name)
    until = now if end is None else min(end, now)
    if first is not None:
        trades = trades_since(tape, first, now, limit)
    else:
        trades = latest_trades(tape, until, limit) if start is None else trades_between(tape, start, until, limit)
    return [agg_trade(tape.listing, trade) for trade in trades if trade.time <= now]


def trades(sim: Simulation, query: Query) -> Any:
    """Return the newest fills."""
    name, limit = query_params.symbol(query), query_params.limit(query, 500, 1000)
    if name in DELISTED:
        return []
    tape, now = tape_and_time(sim, name)
    return _fill_rows(tape, latest_trades(tape, now, limit))[-limit:]


def historical_trades(sim: Simulation, query: Query) -> Any:
    """Return fills from an id on, or the newest."""
    name, limit, first = (
        query_params.symbol(query),
        query_params.limit(query, 500, 1000),
        query_params.integer(query, "fromId"),
    )
    if first is None or name in DELISTED:
        return trades(sim, query)
    tape, now = tape_and_time(sim, name)
    last = tape.last_before(now + 1)
    ids = range(1, last.id + 1 if last else 1)
    trade = bisect_left(ids, first, key=lambda number: tape.from_id(number, 1)[0].last)
    fills = [each for each in tape.from_id(trade + 1, limit) if each.time <= now]
    return [row for row in _fill_rows(tape, fills) if row["id"] >= first][:limit]


def tape_and_time(sim: Simulation, name: str) -> tuple[Tape, int]:
    """Return a symbol's tape, and the time up to which requests see it."""
    listing = BINANCE[name]
    return sim.market.tape(listing), sim.faults.visible_time("binance", listing.instrument, sim.now())


def _fill_rows(tape: Tape, fills: Iterable[TapeTrade]) -> list[dict[str, Any]]:
    return [row for trade in fills for row in _fills(tape.listing, trade)]


def _fills(listing: SimulatedListing, trade: TapeTrade) -> list[dict[str, Any]]:
    return [
        {
            "id": fill,
            "price": format_fixed(listing.price(trade.price)),
            "qty": format_fixed(listing.amount(lots)),
            "quoteQty": format_fixed(listing.turnover(trade.price * lots)),
            "time": trade.time,
            "isBuyerMaker": trade.sold,
            "isBestMatch": True,
        }
        for fill, lots in fills(trade)
    ]
