"""Wall clocks of processes that differ from the machine's and can be set while the processes run.

clock = ShiftedClock(folder, seconds=-3600)
with split(folder, private, clocks={"writer": clock}) as system:
    clock.set(0)

The monotonic clock stays right. libfaketime breaks Python's `time.sleep`, which Kurs never calls.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.servers import NotInstalled

LIBRARY_PATTERNS = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")


class ShiftedClock:
    """A wall clock for one process or several ones."""

    def __init__(self, folder: Path, seconds: float = 0) -> None:
        self.seconds = 0.0  # ahead of the machine's clock
        self._library = _library()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "clock"
        self.set(seconds)

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of a process with this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # otherwise each wait for Python's lock takes 10 ms
            "FAKETIME_NO_CACHE": "1",  # so that a step is seen at once
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the machine's, negative for behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}\n")
        new.replace(self._file)  # at once, because the processes read it at any time
        self.seconds = seconds


def _library() -> Path:
    """Return the path of libfaketime. Raises NotInstalled."""
    found = [path for place in LIBRARY_PATTERNS for path in Path("/usr").glob(f"{place}/libfaketimeMT.so.1")]
    if not found:
        raise NotInstalled("faketime is not installed: run tests/install-servers faketime")
    return found[0]
