"""The watchdog ends a process whose event loop stalls, but not one that was stopped and resumed."""

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

def holding():  # the interpreter's lock, so that no other thread runs
    sum(range(10**13))

STALLS = {{"waiting": lambda: time.sleep(600), "busy": busy, "holding the lock": holding}}

async def main():
    with watchdog.watch_event_loop({limit}):
        await asyncio.sleep(0.1)
        print("watched", flush=True)
        {body}

log.setup("INFO", {{}})
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
"""


def start_watched(body: str) -> "subprocess.Popen[str]":
    """Start a process whose watched event loop runs `body`."""
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
def test_process_with_a_stalled_loop_ends_and_logs_the_stack(how: str) -> None:
    process = start_watched(f"STALLS[{how!r}]()")
    out, err = process.communicate(timeout=60)
    assert "in main" in err  # the stack
    if how == "holding the lock":  # no thread can log it
        assert process.returncode == -signal.SIGPROF
    else:
        assert process.returncode == 1
        assert '"level": "CRITICAL"' in out
        assert "event loop: stalled for 2 s" in out


def test_process_that_was_stopped_and_resumed_continues() -> None:
    process = start_watched("await asyncio.sleep(2); print('well')")
    process.send_signal(signal.SIGSTOP)
    time.sleep(2 * MAX_STALL_SECONDS + 1)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "well" in out


def test_metric_has_the_longest_stall() -> None:
    process = start_watched(
        "await asyncio.sleep(0.2); time.sleep(0.5); await asyncio.sleep(0.1); "
        "print(REGISTRY.get_sample_value('kurs_loop_longest_stall_seconds'))"
    )
    out, _ = process.communicate(timeout=60)
    assert 0.45 <= float(out) < 5
