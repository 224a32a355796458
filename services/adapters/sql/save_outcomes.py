"""Outcomes of the last saves, for /readyz: whether this process can save."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.core.errors import Unavailable

PROVEN_SECONDS = 30  # after a save, during which saving is known to work
FAILING_SECONDS = 60  # after a failed save, unless items of its kind were saved since


class SaveOutcomes:
    """Outcomes by kind of item: saved rates do not make up for a batch that cannot be saved."""

    def __init__(self) -> None:
        self._saved: float | None = None
        self._failing: dict[type, tuple[float, str]] = {}

    @contextmanager
    def recording(self, kinds: Sequence[type]) -> Iterator[None]:
        """Record the outcome of the block."""
        try:
            yield
        except Exception as error:
            outcome = time.monotonic(), str(error) or type(error).__name__
            self._failing |= dict.fromkeys(kinds, outcome)
            raise
        self._saved = time.monotonic() if kinds else self._saved
        for kind in kinds:
            self._failing.pop(kind, None)

    def is_proven(self) -> bool:
        """Return whether saving is known to work. Raises Unavailable when it is known to fail."""
        now = time.monotonic()
        for kind, (failed, reason) in self._failing.items():
            if now - failed < FAILING_SECONDS:
                raise Unavailable(
                    f"{kind.__name__.lower()}s could not be saved {now - failed:.0f} s ago: {reason:.300}"
                )
        return self._saved is not None and now - self._saved < PROVEN_SECONDS
