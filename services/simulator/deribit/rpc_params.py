"""The parameters of Deribit's methods: numbers may come as such or, over HTTP, as text."""

from collections.abc import Mapping
from typing import Any, NoReturn

from services.simulator.market.listings import DERIBIT
from services.simulator.market.tape import Tape
from services.simulator.simulation import Simulation

Parameters = Mapping[str, Any]


class RpcError(Exception):
    """A call that gets an error."""

    def __init__(self, code: int, message: str, **data: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


def text(given: Parameters, name: str) -> str:
    """A required text."""
    value = given.get(name)
    return value if isinstance(value, str) and value else reject(name)


def integer(given: Parameters, name: str, default: int | None = None) -> int:
    """A whole number; required if there is no default."""
    value = optional_integer(given, name)
    if value is None:
        value = default
    return reject(name) if value is None else value


def optional_integer(given: Parameters, name: str) -> int | None:
    """A whole number, or None if there is none."""
    value = given.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        reject(name, "must be an integer")


def flag(given: Parameters, name: str) -> bool:
    """True or false."""
    return given.get(name) in (True, "true")


def tape_and_time(sim: Simulation, given: Parameters) -> tuple[Tape, int]:
    """The instrument's tape, and the time up to which requests see it."""
    name = text(given, "instrument_name")
    if name not in DERIBIT:
        raise RpcError(13020, "not_found")
    listing = DERIBIT[name]
    return sim.market.tape(listing), sim.faults.visible_time("deribit", listing.instrument, sim.now())


def reject(name: str, reason: str = "value required") -> NoReturn:
    """Refuse a parameter."""
    raise RpcError(-32602, "Invalid params", reason=reason, param=name)
