"""Watchdog of this process's event loop: measures stalls, and ends the process when the loop does not continue.

A supervisor restarts a process that ends, but not one that hangs.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge

from services.log_throttle import ThrottledLog

LOOP_HEARTBEAT_SECONDS = 0.025  # between two heartbeats of the loop; the precision of a measured stall
MIN_STALL_SECONDS = 0.1  # a heartbeat later than this is a stall
LOGGED_STALL_SECONDS = 1.0
MAX_LOOP_STALL_SECONDS = 20  # without a heartbeat; then the process ends
LOG_TIMEOUT_SECONDS = 5  # to write the log, which may be what blocks the loop
STDERR_DESCRIPTOR = 2  # even if sys.stderr was closed
LONGEST = Gauge("kurs_loop_longest_stall_seconds", "Longest time that the event loop stood still")
STALLED = Counter("kurs_loop_stalled_seconds_total", "Time that the event loop stood still, each time over 0.1 s")
log = logging.getLogger(__name__)


class Watchdog:
    """Heartbeats on the loop, and a thread that counts the seconds without one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop, self._complaints = asyncio.get_running_loop(), ThrottledLog(log)
        self._beats, self._expected, self._longest = 0, time.monotonic(), 0.0
        self._ended = threading.Event()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._next.cancel()
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _beat(self) -> None:
        now = time.monotonic()
        if (late := now - self._expected) > MIN_STALL_SECONDS:
            STALLED.inc(late)
            if late > LOGGED_STALL_SECONDS:
                self._complaints.warning("event loop: stalled for %.1f s", late)
        if late > self._longest:
            self._longest = late
            LONGEST.set(late)
        self._beats += 1
        self._expected = now + LOOP_HEARTBEAT_SECONDS
        self._next = self._loop.call_later(LOOP_HEARTBEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        """Count seconds of this thread, not of the clock: a process stopped as a whole has no stall."""
        seen, still = 0, 0
        # Code that holds the interpreter's lock stops this thread too. The kernel counts its CPU time.
        signal.setitimer(signal.ITIMER_PROF, 2 * self._limit)
        while not self._ended.wait(1):
            signal.setitimer(signal.ITIMER_PROF, 2 * self._limit)
            still = 0 if self._beats != seen else still + 1
            seen = self._beats
            if still >= self._limit:
                self._end_process(still)

    def _end_process(self, seconds: int) -> None:
        last = threading.Timer(LOG_TIMEOUT_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()
        log.critical("event loop: stalled for %d s: the process ends, its supervisor has to restart it", seconds)
        faulthandler.dump_traceback(STDERR_DESCRIPTOR, all_threads=True)
        os._exit(1)


@contextmanager
def watch_event_loop(limit: int = MAX_LOOP_STALL_SECONDS) -> Iterator[None]:
    """Watch the running loop. After a stall of `limit` seconds, write each thread's stack to stderr and exit with 1."""
    faulthandler.register(signal.SIGPROF, STDERR_DESCRIPTOR, all_threads=True, chain=True)
    watchdog = Watchdog(limit)
    try:
        yield
    finally:
        watchdog.stop()
