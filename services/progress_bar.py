"""Progress bar on a terminal; silent where the stream is not a terminal."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

BAR_CHARACTERS = 30
REDRAW_SECONDS = 0.1


class ProgressBar:
    """One line that is redrawn: `with ProgressBar("history", 1000) as bar: bar.update(10, "10 candles")`."""

    def __init__(self, label: str, total: int, stream: TextIO = sys.stderr) -> None:
        self._label, self._total, self._stream = label, max(1, total), stream
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def update(self, done: int, note: str = "") -> None:
        """Draw `done` of the total, at most every 0.1 s."""
        now = time.monotonic()
        if self._stream.isatty() and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._draw(done, note)

    def _draw(self, done: int, note: str) -> None:
        fraction = min(1.0, done / self._total)
        bar = "█" * round(fraction * BAR_CHARACTERS)
        self._stream.write(f"\r\x1b[K{self._label} {bar:░<{BAR_CHARACTERS}} {fraction:4.0%} {note}")
        self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
