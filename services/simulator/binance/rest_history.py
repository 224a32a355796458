"""Binance's past: klines, aggregate trades and fills."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np

from services.simulator.binance import query_params as asked
from services.simulator.binance.payloads import agg_trade, fills, fixed, kline_rows
from services.simulator.binance.query_params import Query
from services.simulator.market.bar_columns import Trade
from services.simulator.market.listings import BINANCE, FROZEN, Listing
from services.simulator.market.tape import Tape, between, latest, since
from services.simulator.market.tape_candles import LENGTHS, candles, closing, opening, openings
from services.simulator.simulation import Simulation


def klines(sim: Simulation, query: Query) -> Any:
    """Closed bars, and the one that is forming."""
    name = asked.symbol(query)
    interval = query.get("interval") or asked.missing("interval")
    if interval not in LENGTHS:
        asked.refuse(-1120, "Invalid interval.")
    limit, shift, length = asked.limit(query, 500, 1000), asked.time_zone(query), LENGTHS[interval]
    start, end = asked.moment(query, "startTime"), asked.moment(query, "endTime")
    if name in FROZEN:
        return []
    tape, now = seen(sim, name)
    first = int(opening(length, np.array([tape.start]), shift)[0])  # there is none before it
    until = now if end is None else min(end, now)
    opens = openings(length, None if start is None else max(start, first), until, limit, shift)
    bars = candles(tape, length, opens, now, shift)
    lasts = (closing(length, opened, shift) - 1 for opened in bars.time.tolist())
    return kline_rows(tape.listing, bars, lasts)


def agg_trades(sim: Simulation, query: Query) -> Any:
    """Aggregate trades from an id on, from a time on, or the last."""
    name = asked.symbol(query)
    limit = asked.limit(query, 500, 1000)
    first, start, end = asked.whole(query, "fromId"), asked.moment(query, "startTime"), asked.moment(query, "endTime")
    if name in FROZEN:
        return []
    tape, now = seen(sim, name)
    until = now if end is None else min(end, now)
    if first is not None:
        found = since(tape, first, now, limit)
    else:
        found = latest(tape, until, limit) if start is None else between(tape, start, until, limit)
    return [agg_trade(tape.listing, trade) for trade in found if trade.time <= now]


def trades(sim: Simulation, query: Query) -> Any:
    """The last fills."""
    name, limit = asked.symbol(query), asked.limit(query, 500, 1000)
    if name in FROZEN:
        return []
    tape, now = seen(sim, name)
    return _rows(tape, latest(tape, now, limit))[-limit:]


def historical_trades(sim: Simulation, query: Query) -> Any:
    """Fills from an id on, or the last."""
    name, limit, first = asked.symbol(query), asked.limit(query, 500, 1000), asked.whole(query, "fromId")
    if first is None or name in FROZEN:
        return trades(sim, query)
    tape, now = seen(sim, name)
    last = tape.before(now + 1)
    ids = range(1, last.id + 1 if last else 1)
    trade = bisect_left(ids, first, key=lambda number: tape.following(number, 1)[0].last)
    found = [each for each in tape.following(trade + 1, limit) if each.time <= now]
    return [row for row in _rows(tape, found) if row["id"] >= first][:limit]


def seen(sim: Simulation, name: str) -> tuple[Tape, int]:
    """The symbol's tape, and the time up to which requests see it."""
    listing = BINANCE[name]
    return sim.market.tape(listing), sim.faults.frozen("binance", listing.instrument, sim.now())


def _rows(tape: Tape, found: Iterable[Trade]) -> list[dict[str, Any]]:
    return [row for trade in found for row in _fills(tape.listing, trade)]


def _fills(listing: Listing, trade: Trade) -> list[dict[str, Any]]:
    return [
        {
            "id": fill,
            "price": fixed(listing.price(trade.price)),
            "qty": fixed(listing.amount(lots)),
            "quoteQty": fixed(listing.turnover(trade.price * lots)),
            "time": trade.time,
            "isBuyerMaker": trade.sold,
            "isBestMatch": True,
        }
        for fill, lots in fills(trade)
    ]
