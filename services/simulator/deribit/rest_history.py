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


def last_trades(sim: Simulation, params: Parameters) -> Any:
    """Return trades from an id or a time on, oldest first, or the newest, newest first. `sorting` may reverse them."""
    tape, now = tape_and_time(sim, params)
    count = min(integer(params, "count", 10), MAX_TRADES)
    first, start = optional_integer(params, "start_seq"), optional_integer(params, "start_timestamp")
    from_start = first is not None or start is not None
    trades = _select_trades(tape, params, now, count + 1)
    page = trades[:count] if from_start else trades[-count:]
    rows = payloads.trades(sim.market, tape, page)
    ascending = (
        params.get("sorting", "default") == ("default" if from_start else "asc") or params.get("sorting") == "asc"
    )
    return {"trades": rows if ascending else rows[::-1], "has_more": len(trades) > count}


def chart(sim: Simulation, params: Parameters) -> Any:
    """Return the bars in [start, end], the last one forming."""
    tape, now = tape_and_time(sim, params)
    resolution = text(params, "resolution")
    if resolution not in RESOLUTIONS_MS:
        reject("resolution", "wrong value")
    start, end = integer(params, "start_timestamp"), integer(params, "end_timestamp")
    length = RESOLUTIONS_MS[resolution]
    first = int(opening(length, np.array([tape.start]))[0])  # no bar is earlier
    bars = candles(tape, length, openings(length, max(start, first), min(end, now), MAX_BARS), now)
    rows = [bar(tape.listing, bars, row) for row in range(len(bars.time))]
    names = {"ticks": "tick"} | {name: name for name in ("open", "high", "low", "close", "volume", "cost")}
    return {**{name: [row[key] for row in rows] for name, key in names.items()}, "status": "ok" if rows else "no_data"}


def _select_trades(tape: Tape, params: Parameters, now: int, limit: int) -> list[TapeTrade]:
    """Return up to `limit` requested trades, oldest first."""
    first, last = optional_integer(params, "start_seq"), optional_integer(params, "end_seq")
    end = min(optional_integer(params, "end_timestamp") or now, now)
    start = optional_integer(params, "start_timestamp")
    if first is not None:
        trades = trades_since(tape, first, now, limit)
    elif start is not None:
        trades = trades_between(tape, start, end, limit)
    elif last is not None:
        trades = trades_since(tape, last - limit + 1, now, min(limit, last))
    else:
        trades = latest_trades(tape, end, limit)
    return [trade for trade in trades if trade.time <= end and (last is None or trade.id <= last)]
