"""Parameters of Deribit's methods. Over HTTP numbers are text."""

from collections.abc import Mapping
from typing import Any, NoReturn

from services.simulator.market.listings import DERIBIT
from services.simulator.market.tape import Tape
from services.simulator.simulation import Simulation

Parameters = Mapping[str, Any]


class RpcError(Exception):
    """Raised for a call that gets an error."""

    def __init__(self, code: int, message: str, **data: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


def text(params: Parameters, name: str) -> str:
    """Return a required text."""
    value = params.get(name)
    return value if isinstance(value, str) and value else reject(name)


def integer(params: Parameters, name: str, default: int | None = None) -> int:
    """Return an integer, which is required if there is no default."""
    value = optional_integer(params, name)
    if value is None:
        value = default
    return reject(name) if value is None else value


def optional_integer(params: Parameters, name: str) -> int | None:
    """Return an integer, or None if it is missing."""
    value = params.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        reject(name, "must be an integer")


def flag(params: Parameters, name: str) -> bool:
    """Return whether a parameter is true."""
    return params.get(name) in (True, "true")


def tape_and_time(sim: Simulation, params: Parameters) -> tuple[Tape, int]:
    """Return an instrument's tape, and the time up to which requests see it."""
    name = text(params, "instrument_name")
    if name not in DERIBIT:
        raise RpcError(13020, "not_found")
    listing = DERIBIT[name]
    return sim.market.tape(listing), sim.faults.visible_time("deribit", listing.instrument, sim.now())


def reject(name: str, reason: str = "value required") -> NoReturn:
    """Raise the error of an invalid parameter."""
    raise RpcError(-32602, "Invalid params", reason=reason, param=name)
