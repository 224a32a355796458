"""What an event says, for a person to read."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from services.core import times
from services.watch.sse_client import Event

NOTICES = frozenset({"reset", "skipped", "closing", "loading", "market"})
UNKNOWN = "—"


class Line(NamedTuple):
    """One thing and how it stands. `value` is what changes, `more` explains it."""

    name: str
    value: str
    more: str
    time: int | None  # ms


def line(event: Event) -> Line | None:
    """How the thing that an event is about stands; None when it is about none."""
    if event.name in NOTICES:
        return None
    return Line(*_parts(event.name, event.said), event.said.get("time"))


def sentence(event: Event) -> str:
    """The event in a line of plain text."""
    told = line(event)
    if event.name == "loading":
        return f"loading {event.said.get('channel')}: {_loaded(event.said)}"
    if told is None:
        return f"{event.name}: {event.said.get('reason', '')}"
    at = times.written(told.time) if told.time else ""
    return " ".join(filter(None, (at, told.name, told.value, told.more)))


def _loaded(said: Mapping[str, Any]) -> str:
    if said.get("done"):
        return "done"
    return said.get("reason") or f"{said.get('available')} of {said.get('expected')} candles"


def _parts(name: str, said: Mapping[str, Any]) -> tuple[str, str, str]:
    match said:
        case {"direction": direction, "value": value}:
            simulated = ", simulated" * bool(said.get("simulated"))
            return direction, value or UNKNOWN, said.get("reason") or f"{said.get('exchange')}{simulated}"
        case {"open": start, "high": high, "low": low, "close": close}:
            state = "closed" if said.get("closed") else "forming"
            opened = times.written(said["timestamp"])
            return _bare(name), str(close), f"{opened} open {start} high {high} low {low} {state}"
        case {"values": values}:
            return _bare(name), " ".join(f"{key}={value}" for key, value in values.items()), ""
        case {"connected": connected, "exchange": exchange}:
            return exchange, "connected" if connected else "away", said.get("reason", "")
        case {"failovers": _}:
            return "in use", said.get("exchange") or UNKNOWN, said.get("reason", "")
    return name, str(dict(said)), ""


def _bare(name: str) -> str:
    return name.partition(":")[2]
