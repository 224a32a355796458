"""Events as text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from services.core import times
from services.watch.sse_client import Event

NOTICES = frozenset({"reset", "skipped", "closing", "loading", "market"})
NO_VALUE = "—"


class DisplayRow(NamedTuple):
    """A row of the table. `value` is what changes, `detail` explains it."""

    name: str
    value: str
    detail: str
    time: int | None  # ms


def to_row(event: Event) -> DisplayRow | None:
    """Return an event's row, None for a notice."""
    if event.name in NOTICES:
        return None
    return DisplayRow(*_name_value_detail(event.name, event.data), event.data.get("time"))


def to_text(event: Event) -> str:
    """Return an event as a line of text."""
    told = to_row(event)
    if event.name == "loading":
        return f"loading {event.data.get('channel')}: {_loading_text(event.data)}"
    if told is None:
        return f"{event.name}: {event.data.get('reason', '')}"
    at = times.format_rfc3339(told.time) if told.time else ""
    return " ".join(filter(None, (at, told.name, told.value, told.detail)))


def _loading_text(said: Mapping[str, Any]) -> str:
    if said.get("done"):
        return "done"
    return said.get("reason") or f"{said.get('available')} of {said.get('expected')} candles"


def _name_value_detail(name: str, said: Mapping[str, Any]) -> tuple[str, str, str]:
    match said:
        case {"direction": direction, "value": value}:
            simulated = ", simulated" * bool(said.get("simulated"))
            return direction, value or NO_VALUE, said.get("reason") or f"{said.get('exchange')}{simulated}"
        case {"open": start, "high": high, "low": low, "close": close}:
            state = "closed" if said.get("closed") else "forming"
            opened = times.format_rfc3339(said["timestamp"])
            return _without_prefix(name), str(close), f"{opened} open {start} high {high} low {low} {state}"
        case {"values": values}:
            return _without_prefix(name), " ".join(f"{key}={value}" for key, value in values.items()), ""
        case {"connected": connected, "exchange": exchange}:
            return exchange, "connected" if connected else "away", said.get("reason", "")
        case {"failovers": _}:
            return "in use", said.get("exchange") or NO_VALUE, said.get("reason", "")
    return name, str(dict(said)), ""


def _without_prefix(name: str) -> str:
    return name.partition(":")[2]
