"""Detects steps of the machine's wall clock: a warning and metrics in every process."""

import logging

from prometheus_client import Counter, Gauge

from services.core.clocks import StepDetector
from services.ports import Clock

CHECK_SECONDS = 0.5
MAX_READ_MS = 50  # both clocks are read within this time, otherwise again
STEPS = Counter("kurs_clock_steps_total", "How often the wall clock was set by a second or more, either way")
OFFSET = Gauge("kurs_clock_offset_seconds", "How far the wall clock was set since the process started")
log = logging.getLogger(__name__)


async def report_clock_steps(clock: Clock) -> None:
    """Compare the wall clock with the monotonic clock until cancelled."""
    detector = StepDetector(*read_both(clock))
    while True:
        await clock.sleep(CHECK_SECONDS)
        step = detector.update(*read_both(clock))
        OFFSET.set(detector.offset / 1000)
        if step:
            STEPS.inc()
            direction = "back" if step < 0 else "ahead"
            log.warning("the machine's clock was set %s by %.1f s; ages are not affected", direction, abs(step) / 1000)


def read_both(clock: Clock) -> tuple[int, int]:
    """Return wall and monotonic time of the same moment. The process may be stopped between two readings."""
    while True:
        before, wall, after = clock.monotonic(), clock.now(), clock.monotonic()
        if after - before < MAX_READ_MS:
            return wall, after
