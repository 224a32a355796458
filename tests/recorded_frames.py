"""Frames recorded from exchanges, their events, and the shape of their JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.core.exchange import Event, Exchange
from services.core.model import Instrument

FRAMES_FOLDER = Path(__file__).parent / "frames"
NOW = 1_800_000_000_000


class RecordedFrame(msgspec.Struct):
    """A recorded frame and its events. None: neither the frame nor a part of it can be parsed."""

    by: str
    frame: str
    instruments: list[str]
    events: list[object] | None
    timeframe: str = "1m"


def recorded_frames(name: str) -> list[RecordedFrame]:
    """Return the recorded frames of an exchange with their events."""
    lines = (FRAMES_FOLDER / f"{name}.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=RecordedFrame) for line in lines]


def parse_by_way(exchange: Exchange, row: RecordedFrame) -> Sequence[Event]:  # noqa: PLR0911  one for each way
    wanted = tuple(Instrument.parse(name) for name in row.instruments)
    if row.by == "socket":
        assert exchange.stream
        return exchange.stream(wanted).parse(row.frame, NOW)
    if row.by == "poll":
        assert exchange.poll
        return exchange.poll(wanted, {})[0].parse(row.frame.encode(), NOW)
    if row.by == "missed":
        assert exchange.refetch_trades
        return exchange.refetch_trades(wanted[0], range(1)).parse(row.frame.encode(), NOW)
    if row.by == "history":
        assert exchange.klines
        ask = exchange.klines(wanted[0], row.timeframe, 0, NOW)
        assert ask
        return ask.parse(row.frame.encode(), NOW)
    if row.by == "rules":
        return exchange.trading_rules[0].parse(row.frame.encode(), NOW)
    if row.by == "index":
        assert exchange.index_price
        return exchange.index_price(wanted[0]).parse(row.frame.encode(), NOW)
    assert exchange.instrument_status
    return exchange.instrument_status(wanted[0]).parse(row.frame.encode(), NOW)


def socket_frames(exchange: str) -> Iterator[dict[str, Any]]:
    """Yield frames recorded from an exchange's socket, also those that Kurs does not use."""
    for row in map(msgspec.json.decode, (FRAMES_FOLDER / f"{exchange}.jsonl").read_bytes().splitlines()):
        if row["events"] and row["by"] == "socket":
            yield msgspec.json.decode(row["frame"])
    yield from map(msgspec.json.decode, (FRAMES_FOLDER / f"{exchange}.shapes.jsonl").read_bytes().splitlines())


def same_shape(ours: Any, theirs: Any) -> bool:
    """Return whether both have the same keys and types. A null in theirs matches every value."""
    match theirs:
        case None:
            return True
        case dict():
            return ours.keys() == theirs.keys() and all(same_shape(ours[key], value) for key, value in theirs.items())
        case list():
            return isinstance(ours, list) and all(
                same_shape(first, second) for first, second in zip(ours, theirs, strict=False)
            )
        case str():
            return isinstance(ours, str) and decimal_places(ours) == decimal_places(theirs)
        case bool():
            return isinstance(ours, bool)
    return isinstance(ours, int | float) and not isinstance(ours, bool)


def decimal_places(text: str) -> int | None:
    """Return the number of decimal places of a number as text, None for another text."""
    whole, _, part = text.removeprefix("-").partition(".")
    return len(part) if whole.isdigit() and part.isdigit() else None
