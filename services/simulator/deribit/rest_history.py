"""Deribit's history methods: trades and charts."""

from typing import Any

import numpy as np

from services.simulator.deribit import payloads
from services.simulator.deribit.notification_channels import RESOLUTIONS_MS, bar
from services.simulator.deribit.rpc_params import Parameters, integer, optional_integer, reject, tape_and_time, text
from services.simulator.market.bar_columns import TapeTrade
from services.simulator.market.tape import Tape, latest_trades, trades_between, trades_since
from services.simulator.market.tape_candles import candles, opening, openings
from services.simulator.simulation import Simulation

MAX_BARS, MAX_TRADES = 5000, 1000


def last_trades(sim: Simulation, given: Parameters) -> Any:
    """Return trades from an id or a time on, oldest first, or the newest, newest first. `sorting` may reverse them."""
    tape, now = tape_and_time(sim, given)
    count = min(integer(given, "count", 10), MAX_TRADES)
    first, start = optional_integer(given, "start_seq"), optional_integer(given, "start_timestamp")
    from_start = first is not None or start is not None
    found = _select_trades(tape, given, now, count + 1)
    page = found[:count] if from_start else found[-count:]
    rows = payloads.trades(sim.market, tape, page)
    ascending = given.get("sorting", "default") == ("default" if from_start else "asc") or given.get("sorting") == "asc"
    return {"trades": rows if ascending else rows[::-1], "has_more": len(found) > count}


def chart(sim: Simulation, given: Parameters) -> Any:
    """Return the bars in [start, end], the last one forming."""
    tape, now = tape_and_time(sim, given)
    resolution = text(given, "resolution")
    if resolution not in RESOLUTIONS_MS:
        reject("resolution", "wrong value")
    start, end = integer(given, "start_timestamp"), integer(given, "end_timestamp")
    length = RESOLUTIONS_MS[resolution]
    first = int(opening(length, np.array([tape.start]))[0])  # no bar is earlier
    bars = candles(tape, length, openings(length, max(start, first), min(end, now), MAX_BARS), now)
    rows = [bar(tape.listing, bars, row) for row in range(len(bars.time))]
    names = {"ticks": "tick"} | {name: name for name in ("open", "high", "low", "close", "volume", "cost")}
    return {**{name: [row[key] for row in rows] for name, key in names.items()}, "status": "ok" if rows else "no_data"}


def _select_trades(tape: Tape, given: Parameters, now: int, limit: int) -> list[TapeTrade]:
    """Return up to `limit` requested trades, oldest first."""
    first, last = optional_integer(given, "start_seq"), optional_integer(given, "end_seq")
    end = min(optional_integer(given, "end_timestamp") or now, now)
    start = optional_integer(given, "start_timestamp")
    if first is not None:
        found = trades_since(tape, first, now, limit)
    elif start is not None:
        found = trades_between(tape, start, end, limit)
    elif last is not None:
        found = trades_since(tape, last - limit + 1, now, min(limit, last))
    else:
        found = latest_trades(tape, end, limit)
    return [trade for trade in found if trade.time <= end and (last is None or trade.id <= last)]
