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
    row = to_row(event)
    if event.name == "loading":
        return f"loading {event.data.get('channel')}: {_loading_text(event.data)}"
    if row is None:
        return f"{event.name}: {event.data.get('reason', '')}"
    at = times.format_rfc3339(row.time) if row.time else ""
    return " ".join(filter(None, (at, row.name, row.value, row.detail)))


def _loading_text(event_data: Mapping[str, Any]) -> str:
    if event_data.get("done"):
        return "done"
    return event_data.get("reason") or f"{event_data.get('available')} of {event_data.get('expected')} candles"


def _name_value_detail(name: str, data: Mapping[str, Any]) -> tuple[str, str, str]:
    match data:
        case {"direction": direction, "value": value}:
            simulated = ", simulated" * bool(data.get("simulated"))
            return direction, value or NO_VALUE, data.get("reason") or f"{data.get('exchange')}{simulated}"
        case {"open": start, "high": high, "low": low, "close": close}:
            state = "closed" if data.get("closed") else "forming"
            opened = times.format_rfc3339(data["timestamp"])
            return _without_prefix(name), str(close), f"{opened} open {start} high {high} low {low} {state}"
        case {"values": values}:
            return _without_prefix(name), " ".join(f"{key}={value}" for key, value in values.items()), ""
        case {"connected": connected, "exchange": exchange}:
            return exchange, "connected" if connected else "disconnected", data.get("reason", "")
        case {"failovers": _}:
            return "active", data.get("exchange") or NO_VALUE, data.get("reason", "")
    return name, str(dict(data)), ""


def _without_prefix(name: str) -> str:
    return name.partition(":")[2]
