"""How saving went of late: whether this process can do what it is there for."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.core.errors import Unavailable

PROVEN_SECONDS = 30  # seconds in which a save proves that saving works
FAILING_SECONDS = 60  # seconds in which one that failed says the contrary, unless what it was of is saved meanwhile


class SaveOutcomes:
    """Of what one process saves, by kind: a batch that cannot be saved is not made up for by rates that can."""

    def __init__(self) -> None:
        self._saved: float | None = None
        self._failing: dict[type, tuple[float, str]] = {}

    @contextmanager
    def recording(self, kinds: Sequence[type]) -> Iterator[None]:
        """Note how what goes on inside ends."""
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
        """Whether it is known that saving works. Raises Unavailable when it is known that it does not."""
        now = time.monotonic()
        for kind, (failed, reason) in self._failing.items():
            if now - failed < FAILING_SECONDS:
                raise Unavailable(
                    f"{kind.__name__.lower()}s could not be saved {now - failed:.0f} s ago: {reason:.300}"
                )
        return self._saved is not None and now - self._saved < PROVEN_SECONDS
