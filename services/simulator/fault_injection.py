"""Faults of data: changes to an exchange's messages, by its own names of times, prices and states."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from services.core.model import Instrument
from services.simulator.faults import ActiveFaults, Fault

UNKNOWN_VALUE = "SOMETHING_NEW"
MAX_BRACKETS = 100  # in a client's message, which has a few: decoding some hundreds of nested ones overflows the stack
PRICE_BY_POSITION = ""  # key of a price that has no key, but a position


class InstrumentBody:
    """A part of a response that is about one instrument."""

    def __init__(self, instrument: Instrument, body: Any) -> None:
        self.instrument, self.body = instrument, body


ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=lambda about: about.body)


def decode(text: str, kind: Any = Any) -> Any:
    """Decode a client's JSON. Raises msgspec.DecodeError, also where it is nested too deeply."""
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise msgspec.DecodeError("JSON is nested too deeply")
    return msgspec.json.decode(text, type=kind)


class PayloadFields(NamedTuple):
    """The keys under which an exchange's messages hold times, prices and states."""

    exchange: str
    times: Mapping[str, int]  # key → units per millisecond; 0: seconds
    prices: frozenset[str]
    states: frozenset[str]
    order_books: frozenset[str] = frozenset()  # lists of levels, each ending with price and size
    unshifted: frozenset[str] = frozenset()  # keys of bars, whose times are no clock

    def corrupt(self, body: Any, faults: ActiveFaults, instrument: Instrument | None) -> tuple[Any, list[Fault]]:
        """Apply the active faults of data to a message. Return it with the faults that applied."""
        active = list(faults.at_exchange(self.exchange, "price", "clock", "unknown_enum"))
        if not active:
            return body, active
        hit = _applicable(active, instrument)
        return self._walk(body, active, hit), hit

    def _walk(self, body: Any, active: list[Fault], hit: list[Fault]) -> Any:
        if isinstance(body, InstrumentBody):
            return self._walk(body.body, active, _applicable(active, body.instrument))
        if isinstance(body, list):
            return [self._walk(each, active, hit) for each in body]
        if not isinstance(body, dict):
            return body
        return {key: self._corrupt_field(key, value, active, hit) for key, value in body.items()}

    def _corrupt_field(self, key: str, value: Any, active: list[Fault], hit: list[Fault]) -> Any:
        if key in self.unshifted:
            hit = [fault for fault in hit if fault.fault != "clock"]
        if key in self.order_books and isinstance(value, list):
            return [[*level[:-2], self._corrupt_value(PRICE_BY_POSITION, level[-2], hit), level[-1]] for level in value]
        if isinstance(value, dict | list | InstrumentBody):
            return self._walk(value, active, hit)
        return self._corrupt_value(key, value, hit)

    def _corrupt_value(self, key: str, value: Any, hit: list[Fault]) -> Any:
        """Apply the faults to one value."""
        for fault in hit:
            if fault.fault == "price" and (key == PRICE_BY_POSITION or key in self.prices):
                value = scale_price(value, 1 + Decimal(str(fault.parameters["percent"])) / 100)
            elif fault.fault == "clock" and key in self.times:
                value = _shift_time(value, int(fault.parameters["ms"]), self.times[key])
            elif fault.fault == "unknown_enum" and key in self.states and isinstance(value, str):
                value = UNKNOWN_VALUE
        return value


def _applicable(active: list[Fault], instrument: Instrument | None) -> list[Fault]:
    """Return the faults that apply to an instrument. A clock fault applies to all, as an exchange has one clock."""
    return [fault for fault in active if fault.fault == "clock" or fault.applies_to(instrument)]


def make_malformed(text: str, turn: int) -> str:
    """Return a message that cannot be parsed, made in one of three ways."""
    distortions: tuple[Callable[[str], str], ...] = (_html_page, _truncated, _wrong_types)
    return distortions[turn % 3](text)


def _html_page(text: str) -> str:
    return "<html><body>upstream connect error</body></html>"


def _truncated(text: str) -> str:
    return text[: len(text) // 2]


def _wrong_types(text: str) -> str:
    return ENCODER.encode(_replace_types(msgspec.json.decode(text))).decode()


def _replace_types(body: Any) -> Any:
    """Replace each innermost value by one of another type."""
    if isinstance(body, dict):
        return {key: _replace_types(value) if isinstance(value, dict) else [] for key, value in body.items()}
    return {"value": None}


def scale_price(value: Any, factor: Decimal) -> Any:
    """Return a price times `factor`, with the same type and number of decimals. An id or null is not changed."""
    if isinstance(value, str | Decimal):
        price = Decimal(value)
        bent = round(price * factor, max(0, -int(price.as_tuple().exponent)))
        return f"{bent:f}" if isinstance(value, str) else bent
    return value * float(factor) if isinstance(value, float) else value


def _shift_time(value: Any, ms: int, units: int) -> Any:
    """Return a time moved by `ms`."""
    if not isinstance(value, int | float) or value < 0:
        return value
    return value + ms * units if units else value + ms // 1000
