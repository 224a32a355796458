"""The first minute of a new clone: `make bench ONLY=first`.

All of Kurs in one process on the simulated market, from an empty folder, with default settings: the seconds until it
answers, until it has a thousand hours of BTCUSDT, until the whole default history is there; and how long its event loop
stood still meanwhile. Alone, beside a busy loop on each core, and on one core that it shares with four of them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from loadtest import results
from loadtest.results import FigureBench, Target
from tests.servers import Server
from tests.system import kurs_process

CHART_HOURS = 1000
POLL_SECONDS = 0.25  # between two looks
BUSY_PROCESSES = 4  # busy loops on the core that Kurs has: the scheduler gives each a fifth
CHART = f"/api/chart-data?symbol=BTCUSDT&timeframe=1h&limit={CHART_HOURS}"
MAX_SECONDS = {"alone": 60, "beside busy loops": 180, "with a fifth of a core": 400}  # seconds until it is given up


def main() -> int:
    """Run it all; 1 when a target is missed."""
    found = dict[str, float]()
    cores = list(range(os.cpu_count() or 1))
    for name, loops, core in (
        ("alone", [], None),
        ("beside busy loops", cores, None),
        ("with a fifth of a core", [cores[0]] * BUSY_PROCESSES, cores[0]),
    ):
        print(f"{name} …", file=sys.stderr)
        with keep_cores_busy(loops):
            figures = first_minute(MAX_SECONDS[name], core)
        found |= {f"{what}, {name}": value for what, value in figures.items()}
    for name, value in found.items():
        print(f"{name:60} {value:10,.2f}")
    reached = targets(found)
    print(*reached, sep="\n")
    return results.save_and_exit_code("first", FigureBench(results.machine_info(), found, reached))


def targets(found: dict[str, float]) -> list[Target]:
    """What Kurs promises. What was not reached in time has no figure: it took for ever."""
    never = float("inf")
    return [
        Target("a thousand hours, s", found.get("a thousand hours, s, alone", never), most=10),
        Target(
            "a thousand hours with a fifth of a core, s",
            found.get("a thousand hours, s, with a fifth of a core", never),
            most=30,
        ),
        Target("the whole default history, s", found.get("all history, s, alone", never), most=60),
        Target("longest that the event loop stood still, ms", found["longest stall, ms, alone"], most=100),
    ]


def first_minute(limit: float, core: int | None) -> dict[str, float]:
    """Start it, on one core or on any, and watch until everything is there, or for `limit` seconds."""
    with tempfile.TemporaryDirectory(prefix="kurs-first-") as folder:
        process = kurs_process(Path(folder), KURS_DATA_DIR=f"{folder}/data", API_RATE_LIMIT="0")
        began = time.monotonic()
        process.launch()
        try:
            if core is not None and process.process:
                psutil.Process(process.process.pid).cpu_affinity([core])  # its threads, later, inherit it
            return watch_start(process, began, began + limit)
        finally:
            process.stop()


def watch_start(process: Server, began: float, end: float) -> dict[str, float]:
    """When what was there, in seconds since `began`."""
    left: dict[str, Callable[[], bool]] = {
        "first answer, s": lambda: get_json(process.url, "/livez") is not None,
        "rates, s": lambda: get_json(process.url, "/v1/courses") is not None,
        "a thousand hours, s": lambda: len((get_json(process.url, CHART) or {"candles": ()})["candles"]) >= CHART_HOURS,
        "all history, s": lambda: is_loaded(get_json(process.url, "/v1/exchanges")),
    }
    found = dict[str, float]()
    while left and time.monotonic() < end:
        name, there = next(iter(left.items()))
        if there():
            found[name] = round(time.monotonic() - began, 2)
            del left[name]
        else:
            time.sleep(POLL_SECONDS)
    if process.process:
        used = psutil.Process(process.process.pid)
        found["CPU, s"] = round(sum(used.cpu_times()[:2]), 2)
        found["memory, MB"] = round(used.memory_info().rss / 2**20)
    return {**found, "longest stall, ms": longest_stall(process.url)}


def get_json(url: str, path: str) -> Any:
    """The answer; None while there is none."""
    try:
        with urllib.request.urlopen(url + path, timeout=30) as answer:  # noqa: S310  our own http URL
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def is_loaded(exchanges: Any) -> bool:
    """Whether every exchange says that nothing of its history is missing."""
    amounts = [each["history"] for each in exchanges["exchanges"]] if exchanges else []
    return bool(amounts) and all(each and each["missing"] == 0 for each in amounts)


def longest_stall(url: str) -> float:
    """The longest time that the process's event loop stood still, in ms, as it measured it."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310  our own http URL
        found = re.search(r"^kurs_loop_longest_stall_seconds (\S+)", answer.read().decode(), re.MULTILINE)
    if not found:
        raise RuntimeError("the metrics say nothing about the event loop")
    return round(float(found[1]) * 1000)


@contextmanager
def keep_cores_busy(cores: Sequence[int]) -> Iterator[None]:
    """A loop that never rests for each of these cores, each a session of its own, between which Linux shares a core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in cores]
    try:
        for loop, core in zip(loops, cores, strict=True):
            psutil.Process(loop.pid).cpu_affinity([core])
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
