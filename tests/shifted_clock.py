"""A process whose wall clock is not the machine's, and can be stepped while it runs. Its monotonic clock stays true.

clock = ShiftedClock(folder, seconds=-3600)
with split(folder, private, clocks={"writer": clock}) as system:
    clock.set(0)

By libfaketime, which breaks Python's `time.sleep`: Kurs never calls that, its processes wait on their event loop.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.servers import NotInstalled

LIBRARY_PATTERNS = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")


class ShiftedClock:
    """One clock, for one process or for several that share it."""

    def __init__(self, folder: Path, seconds: float = 0) -> None:
        self.seconds = 0.0  # ahead of the machine's clock
        self._library = _library()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "clock"
        self.set(seconds)

    @property
    def env(self) -> Mapping[str, str]:
        """What the process needs in its environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else whatever waits for Python's lock among threads waits for 10 ms
            "FAKETIME_NO_CACHE": "1",  # so that a step is seen at once
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: float) -> None:
        """Let it be so many seconds ahead; negative: behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}\n")
        new.replace(self._file)  # never half a line: it is read while this is written
        self.seconds = seconds


def _library() -> Path:
    """Where libfaketime is. Raises Missing."""
    found = [path for place in LIBRARY_PATTERNS for path in Path("/usr").glob(f"{place}/libfaketimeMT.so.1")]
    if not found:
        raise NotInstalled("faketime is not installed: run tests/install-servers faketime")
    return found[0]
