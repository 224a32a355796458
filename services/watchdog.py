"""Watches this process's event loop: how long it stood still, and an end to the process when it does not go on.

A process that cannot answer is worth less than one that starts again: who supervises it does that, if it ends.
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

HEARTBEAT_SECONDS = 0.025  # between two heartbeats of the loop: how exactly a stall is measured
MIN_STALL_SECONDS = 0.1  # what is later than that counts as a stall
LOGGED_STALL_SECONDS = 1.0  # what is later than that is logged
MAX_STALL_SECONDS = 20  # seconds without a heartbeat after which the process ends
LOG_TIMEOUT_SECONDS = 5  # for the log: whoever holds it up may be what the loop waits for
STDERR_DESCRIPTOR = 2  # its descriptor: whatever became of the file object
LONGEST = Gauge("kurs_loop_longest_stall_seconds", "Longest time that the event loop stood still")
STALLED = Counter("kurs_loop_stalled_seconds_total", "Time that the event loop stood still, each time over 0.1 s")
log = logging.getLogger(__name__)


class Watchdog:
    """Beats on the loop, and counts in a thread for how many seconds it has not."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop, self._complaints = asyncio.get_running_loop(), ThrottledLog(log)
        self._beats, self._expected, self._longest = 0, time.monotonic(), 0.0
        self._ended = threading.Event()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._next.cancel()
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _beat(self) -> None:
        now = time.monotonic()
        if (late := now - self._expected) > MIN_STALL_SECONDS:
            STALLED.inc(late)
            if late > LOGGED_STALL_SECONDS:
                self._complaints.warning("the event loop stood still for %.1f s", late)
        if late > self._longest:
            self._longest = late
            LONGEST.set(late)
        self._beats += 1
        self._expected = now + HEARTBEAT_SECONDS
        self._next = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        """Counts its own seconds, not the clock's: a process that was stopped as a whole has nothing to blame."""
        seen, still = 0, 0
        # What holds the interpreter's lock stops this thread too. It burns CPU, which the kernel counts.
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
        log.critical("the event loop has stood still for %d s; the process ends, to be started again", seconds)
        faulthandler.dump_traceback(STDERR_DESCRIPTOR, all_threads=True)
        os._exit(1)


@contextmanager
def watch_event_loop(limit: int = MAX_STALL_SECONDS) -> Iterator[None]:
    """Watch the running loop. Where it stands still for `limit` seconds, each thread's stack is written to stderr and
    the process ends with 1.
    """
    faulthandler.register(signal.SIGPROF, STDERR_DESCRIPTOR, all_threads=True, chain=True)
    watchdog = Watchdog(limit)
    try:
        yield
    finally:
        watchdog.stop()
