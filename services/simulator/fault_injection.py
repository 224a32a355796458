"""How faults change what an exchange says: each exchange's own names for times, prices and states."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from services.core.model import Instrument
from services.simulator.faults import Fault, Faults

UNHEARD = "SOMETHING_NEW"
MOST_BRACKETS = 100  # in a client's message, which has a handful: the stack bears some hundreds of nested ones
PRICE = ""  # the key of what is a price by its place


class About:
    """A part of an answer that is about one instrument."""

    def __init__(self, instrument: Instrument, body: Any) -> None:
        self.instrument, self.body = instrument, body


ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=lambda about: about.body)


def decode(text: str, kind: Any = Any) -> Any:
    """A client's JSON. Raises msgspec.DecodeError, for what is nested too deeply as well."""
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise msgspec.DecodeError("JSON is nested too deeply")
    return msgspec.json.decode(text, type=kind)


class Dialect(NamedTuple):
    """Where an exchange's messages hold what."""

    exchange: str
    times: Mapping[str, int]  # key → its units in a millisecond; 0: seconds
    prices: frozenset[str]
    states: frozenset[str]
    books: frozenset[str] = frozenset()  # lists of levels, each of which ends with its price and its size
    whole: frozenset[str] = frozenset()  # under these keys times stay: a bar's edges are not a clock

    def distort(self, body: Any, faults: Faults, instrument: Instrument | None) -> tuple[Any, list[Fault]]:
        """The message as the active faults make it, and which they were."""
        active = list(faults.of(self.exchange, "price", "clock", "unknown_enum"))
        if not active:
            return body, active
        hit = _hits(active, instrument)
        return self._walk(body, active, hit), hit

    def _walk(self, body: Any, active: list[Fault], hit: list[Fault]) -> Any:
        if isinstance(body, About):
            return self._walk(body.body, active, _hits(active, body.instrument))
        if isinstance(body, list):
            return [self._walk(each, active, hit) for each in body]
        if not isinstance(body, dict):
            return body
        return {key: self._value(key, value, active, hit) for key, value in body.items()}

    def _value(self, key: str, value: Any, active: list[Fault], hit: list[Fault]) -> Any:
        if key in self.whole:
            hit = [fault for fault in hit if fault.fault != "clock"]
        if key in self.books and isinstance(value, list):
            return [[*level[:-2], self._bent(PRICE, level[-2], hit), level[-1]] for level in value]
        if isinstance(value, dict | list | About):
            return self._walk(value, active, hit)
        return self._bent(key, value, hit)

    def _bent(self, key: str, value: Any, hit: list[Fault]) -> Any:
        """One value under the faults."""
        for fault in hit:
            if fault.fault == "price" and (key == PRICE or key in self.prices):
                value = scaled(value, 1 + Decimal(str(fault.parameters["percent"])) / 100)
            elif fault.fault == "clock" and key in self.times:
                value = _later(value, int(fault.parameters["ms"]), self.times[key])
            elif fault.fault == "unknown_enum" and key in self.states and isinstance(value, str):
                value = UNHEARD
        return value


def _hits(active: list[Fault], instrument: Instrument | None) -> list[Fault]:
    """The faults that bend what is said of the instrument. An exchange has one clock."""
    return [fault for fault in active if fault.fault == "clock" or fault.concerns(instrument)]


def garbage(text: str, turn: int) -> str:
    """The message made useless, in one of three ways."""
    ways: tuple[Callable[[str], str], ...] = (_page, _cut, _mistyped)
    return ways[turn % 3](text)


def _page(text: str) -> str:
    return "<html><body>upstream connect error</body></html>"


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _mistyped(text: str) -> str:
    return ENCODER.encode(_other(msgspec.json.decode(text))).decode()


def _other(body: Any) -> Any:
    """Every value in the deepest places replaced by one of another type."""
    if isinstance(body, dict):
        return {key: _other(value) if isinstance(value, dict) else [] for key, value in body.items()}
    return {"value": None}


def scaled(value: Any, factor: Decimal) -> Any:
    """A price times `factor`, with its own type and number of decimals. An id or null stays as it is."""
    if isinstance(value, str | Decimal):
        price = Decimal(value)
        bent = round(price * factor, max(0, -int(price.as_tuple().exponent)))
        return f"{bent:f}" if isinstance(value, str) else bent
    return value * float(factor) if isinstance(value, float) else value


def _later(value: Any, ms: int, units: int) -> Any:
    """A time moved by `ms`."""
    if not isinstance(value, int | float) or value < 0:
        return value
    return value + ms * units if units else value + ms // 1000
