"""Faults on demand: their kinds and parameters, and those that are active."""

from collections.abc import Iterator, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct

from services.core.model import Instrument
from services.ports import Clock

FAULT_STATUSES = (403, 418, 429, 451, 500, 502, 503, 504)


class FaultParameter(NamedTuple):
    """A parameter of a fault: a number within bounds."""

    about: str
    default: float
    lowest: float
    highest: float


class FaultKind(NamedTuple):
    """A kind of fault."""

    about: str
    parameters: Mapping[str, FaultParameter] = MappingProxyType({})
    once: bool = False  # it acts once and is never active


STATUS_PARAMETER = FaultParameter(f"the HTTP status, one of {', '.join(map(str, FAULT_STATUSES))}", 503, 400, 599)
FAULT_KINDS = {
    "drop": FaultKind("open sockets are cut without a closing frame", once=True),
    "kill": FaultKind("the exchange is dead: sockets are cut, connections and requests are reset"),
    "refuse": FaultKind(
        "new sockets are refused and requests answered with a status; with `close`, sockets are accepted, then closed",
        {
            "status": STATUS_PARAMETER,
            "close": FaultParameter("the closing code to use instead of refusing, from 1000 on; 0: refuse", 0, 0, 4999),
        },
    ),
    "status": FaultKind(
        "requests and upgrades get this status, with the body that the exchange sends",
        {
            "status": STATUS_PARAMETER._replace(default=429),
            "retry_after": FaultParameter("seconds, for 429 and 418", 10, 0, 86_400),
        },
    ),
    "mute": FaultKind(
        "no data comes, while sockets stay open; a polled exchange goes on giving what it last had",
        {"rest": FaultParameter("1: requests see a market that stands still, too", 0, 0, 1)},
    ),
    "delay": FaultKind("everything comes late", {"ms": FaultParameter("how late", 1000, 1, 60_000)}),
    "reorder": FaultKind(
        "frames come in batches, the last first", {"size": FaultParameter("frames in a batch", 3, 2, 1000)}
    ),
    "duplicate": FaultKind("frames come several times", {"times": FaultParameter("how often each comes", 2, 2, 10)}),
    "garbage": FaultKind(
        "what comes cannot be used: no JSON, cut JSON, values of a wrong type, in turn",
        {"every": FaultParameter("every n-th message is hit", 1, 1, 1000)},
    ),
    "unknown_enum": FaultKind("types and states have unknown values"),
    "shutdown": FaultKind(
        "the exchange announces maintenance, and closes the sockets that are open",
        {"after": FaultParameter("seconds between the announcement and the close", 5, 0, 3600)},
        once=True,
    ),
    "price": FaultKind("prices are wrong", {"percent": FaultParameter("by how much", 10, -99, 10_000)}),
    "clock": FaultKind(
        "the exchange's clock is wrong", {"ms": FaultParameter("how far ahead", 60_000, -(10**12), 10**12)}
    ),
}


class Fault(Struct, frozen=True):
    """A fault that was started."""

    id: int
    exchange: str
    fault: str
    instrument: str | None
    since: int
    until: int | None
    parameters: dict[str, float]

    def applies_to(self, instrument: Instrument | None) -> bool:
        """Return whether it applies to messages about `instrument`; None stands for those about no instrument."""
        return self.instrument is None or (instrument is not None and self.instrument == str(instrument))


class ActiveFaults:
    """Active faults."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._faults: dict[int, Fault] = {}
        self._ids = count(1)

    def add(
        self, exchange: str, fault: str, instrument: str | None, seconds: float | None, given: dict[str, Any]
    ) -> Fault:
        """Start a fault. Raises ValueError that names what is accepted."""
        parameters = _parameters(fault, given)
        now = self._clock.now()
        until = now if FAULT_KINDS[fault].once else None if seconds is None else now + round(seconds * 1000)
        added = Fault(next(self._ids), exchange, fault, instrument, now, until, parameters)
        if not FAULT_KINDS[fault].once:
            self._faults[added.id] = added
        return added

    def active(self) -> list[Fault]:
        """Return the faults that have not expired. Safe from any thread."""
        now = self._clock.now()
        return [fault for fault in tuple(self._faults.values()) if fault.until is None or fault.until > now]

    def at_exchange(self, exchange: str, *kinds: str) -> Iterator[Fault]:
        """Yield the active faults of these kinds at one exchange, oldest first."""
        if self._faults:
            yield from (fault for fault in self.active() if fault.exchange == exchange and fault.fault in kinds)

    def find(self, exchange: str, kind: str, instrument: Instrument | None = None) -> Fault | None:
        """Return the first active fault of that kind that applies to the instrument."""
        return next((fault for fault in self.at_exchange(exchange, kind) if fault.applies_to(instrument)), None)

    def remove(self, key: int | None = None) -> int:
        """End one fault, or all. Return how many ended."""
        ended = [fault.id for fault in self.active() if key in (None, fault.id)]
        self._faults = {} if key is None else {each: self._faults[each] for each in self._faults if each != key}
        return len(ended)

    def visible_time(self, exchange: str, instrument: Instrument | None, now: int, *, polled: bool = False) -> int:
        """Return the time up to which requests see the market, which a mute fault stops.

        `polled`: the exchange has no sockets, so that the fault always stops it.
        """
        mutes = [fault for fault in self.at_exchange(exchange, "mute") if fault.applies_to(instrument)]
        return min([fault.since for fault in mutes if polled or fault.parameters["rest"]], default=now)


def _parameters(fault: str, parameters: dict[str, Any]) -> dict[str, float]:
    if fault not in FAULT_KINDS:
        raise ValueError(f"there is no fault {fault!r}: there are {', '.join(FAULT_KINDS)}")
    accepted = FAULT_KINDS[fault].parameters
    if unknown := sorted(parameters.keys() - accepted.keys()):
        takes = ", ".join(f"{name} ({each.about})" for name, each in accepted.items()) or "no parameters"
        raise ValueError(f"{fault} does not know {', '.join(unknown)}: it takes {takes}")
    for name, value in parameters.items():
        _check(fault, name, value)
    return {name: parameters.get(name, each.default) for name, each in accepted.items()}


def _check(fault: str, name: str, value: Any) -> None:
    each = FAULT_KINDS[fault].parameters[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not each.lowest <= value <= each.highest:
        raise ValueError(f"{fault}: {name} must be a number from {each.lowest:g} to {each.highest:g}: {each.about}")
    if (name == "status" and value not in FAULT_STATUSES) or (name == "close" and 0 < value < 1000):
        raise ValueError(f"{fault}: {name}: {each.about}")
