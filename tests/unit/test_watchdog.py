"""A process whose event loop stands still ends itself; one that was stopped as a whole goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MAX_STALL_SECONDS = 2
PROGRAM = """
import asyncio, re, sys, time
import uvloop
from prometheus_client import REGISTRY
from services import log, watchdog

def busy():
    while True:
        pass

def holding():  # the interpreter's lock: no other thread has a turn
    sum(range(10**13))

STILL = {{"waiting": lambda: time.sleep(600), "busy": busy, "holding the lock": holding}}

async def main():
    with watchdog.watch_event_loop({limit}):
        await asyncio.sleep(0.1)
        print("watched", flush=True)
        {body}

log.setup("INFO", {{}})
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
"""


def start_watched(body: str) -> "subprocess.Popen[str]":
    """A process whose loop does that, once it is watched."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", PROGRAM.format(limit=MAX_STALL_SECONDS, body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout
    assert process.stdout.readline() == "watched\n"
    return process


@pytest.mark.parametrize("how", ["waiting", "busy", "holding the lock"])
def test_a_process_whose_loop_stands_still_ends_and_says_where(how: str) -> None:
    process = start_watched(f"STILL[{how!r}]()")
    out, err = process.communicate(timeout=60)
    assert "in main" in err  # the stack
    if how == "holding the lock":  # then nobody is left to log it
        assert process.returncode == -signal.SIGPROF
    else:
        assert process.returncode == 1
        assert '"level": "CRITICAL"' in out
        assert "event loop: stalled for 2 s" in out


def test_a_process_that_was_stopped_goes_on() -> None:
    process = start_watched("await asyncio.sleep(2); print('well')")
    process.send_signal(signal.SIGSTOP)
    time.sleep(2 * MAX_STALL_SECONDS + 1)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "well" in out


def test_the_longest_stall_is_measured() -> None:
    process = start_watched(
        "await asyncio.sleep(0.2); time.sleep(0.5); await asyncio.sleep(0.1); "
        "print(REGISTRY.get_sample_value('kurs_loop_longest_stall_seconds'))"
    )
    out, _ = process.communicate(timeout=60)
    assert 0.45 <= float(out) < 5
