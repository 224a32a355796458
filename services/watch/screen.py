"""The output of `kurs watch`: a table that is redrawn in a terminal, otherwise lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.core import times
from services.core.markets import LIVE
from services.watch.formatting import DisplayRow, to_row, to_text
from services.watch.sse_client import Event

REDRAWS_PER_SECOND = 5


class Screen(Protocol):
    """An output of events."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def note(self, text: str) -> None:
        """Show a note about the connection."""


@contextmanager
def screen(console: Console, notes: Console) -> Iterator[Screen]:
    """Open the table if the console is a terminal, otherwise lines with notes on another console."""
    if not console.is_terminal:
        yield LineView(console, notes)
        return
    with TableView(console) as board:
        yield board


class LineView:
    """Output of a line for each event."""

    def __init__(self, console: Console, notes: Console) -> None:
        self._console, self._notes = console, notes

    def show(self, event: Event) -> None:
        """Write the event."""
        self._console.file.write(f"{to_text(event)}\n")
        self._console.file.flush()

    def note(self, text: str) -> None:
        """Write the note to the other console, so that the lines can be parsed."""
        self._notes.print(text, markup=False, highlight=False)


class TableView:
    """Table with a row for each channel or direction, coloured by the last change."""

    def __init__(self, console: Console) -> None:
        self._rows: dict[str, tuple[DisplayRow, str]] = {}
        self._note = "connecting …"
        self._market = LIVE
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=REDRAWS_PER_SECOND)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Update the event's row, which the next redraw shows."""
        if event.name == "market":  # the rows are of the other one
            self._rows.clear()
            self._market = event.data["reason"]
        row = to_row(event)
        if row is None:
            self._note = to_text(event)
            return
        before, style = self._rows.get(row.name, (row, ""))
        self._rows[row.name] = row, _style(before.value, row.value) or style
        self._note = ""

    def note(self, text: str) -> None:
        """Show the note below the table."""
        self._note = text

    def _table(self) -> Table:
        market = "" if self._market == LIVE else f"{self._market} market"
        table = Table("", "value", "at", market, box=None, caption=Text(self._note), caption_justify="left")
        for row, style in self._rows.values():
            at = times.format_rfc3339(row.time)[11:19] if row.time else ""
            table.add_row(row.name, Text(row.value, style), at, Text(row.detail, "dim"))
        return table


def _style(before: str, value: str) -> str:
    """Return green after a rise, red after a fall."""
    try:
        change = float(value) - float(before)
    except ValueError:
        return ""
    return "green" if change > 0 else "red" if change < 0 else ""
