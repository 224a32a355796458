"""Wall clocks that are wrong, and are set while Kurs runs."""

import re
import time
from pathlib import Path

import httpx

from tests.conftest import installed
from tests.shifted_clock import ShiftedClock
from tests.system import kurs


def test_a_process_reports_that_its_clock_was_set(tmp_path: Path) -> None:
    clock = installed(lambda: ShiftedClock(tmp_path / "clock", 3600))
    process = kurs(tmp_path, "simulator", **clock.env)
    try:
        process.start()
        clock.set(-86400)
        time.sleep(2)
        metrics = httpx.get(f"{process.url}/metrics").text
    finally:
        process.stop()
    assert process.log().count("this machine's clock was set back by 90000.0 s") == 1
    assert "kurs_clock_steps_total 1.0" in metrics
    assert re.search(r"^kurs_clock_offset_seconds -9\d{4}\.", metrics, re.MULTILINE)
