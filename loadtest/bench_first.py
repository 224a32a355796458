"""The first minute of a new clone: `make bench ONLY=first`.

Kurs in one process on the simulated market, from an empty folder, with default settings: the seconds until the first
response, until a thousand hours of BTCUSDT and until the whole default history are stored, and the longest time that
its event loop stood still. Alone, beside a busy loop on each core, and on one core shared with four busy loops.
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
POLL_SECONDS = 0.25
BUSY_PROCESSES = 4  # on the core of Kurs, so that the scheduler gives it a fifth
CHART = f"/api/chart-data?symbol=BTCUSDT&timeframe=1h&limit={CHART_HOURS}"
MAX_SECONDS = {"alone": 60, "beside busy loops": 180, "with a fifth of a core": 400}  # after which a case is abandoned


def main() -> int:
    """Run the benchmark. Return 1 when a target is missed."""
    figures = dict[str, float]()
    cores = list(range(os.cpu_count() or 1))
    for name, loops, core in (
        ("alone", [], None),
        ("beside busy loops", cores, None),
        ("with a fifth of a core", [cores[0]] * BUSY_PROCESSES, cores[0]),
    ):
        print(f"{name} …", file=sys.stderr)
        with keep_cores_busy(loops):
            measured = first_minute(MAX_SECONDS[name], core)
        figures |= {f"{figure}, {name}": value for figure, value in measured.items()}
    for name, value in figures.items():
        print(f"{name:60} {value:10,.2f}")
    targets = make_targets(figures)
    print(*targets, sep="\n")
    return results.save_and_exit_code("first", FigureBench(results.machine_info(), figures, targets))


def make_targets(figures: dict[str, float]) -> list[Target]:
    """Return the targets of these figures. A missing figure means that the time ran out, and counts as infinite."""
    never = float("inf")
    return [
        Target("a thousand hours, s", figures.get("a thousand hours, s, alone", never), at_most=10),
        Target(
            "a thousand hours with a fifth of a core, s",
            figures.get("a thousand hours, s, with a fifth of a core", never),
            at_most=30,
        ),
        Target("the whole default history, s", figures.get("all history, s, alone", never), at_most=60),
        Target("longest that the event loop stood still, ms", figures["longest stall, ms, alone"], at_most=100),
    ]


def first_minute(limit: float, core: int | None) -> dict[str, float]:
    """Start Kurs, on one core or on any, and measure until everything is loaded, or for `limit` seconds."""
    with tempfile.TemporaryDirectory(prefix="kurs-first-") as folder:
        process = kurs_process(Path(folder), KURS_DATA_DIR=f"{folder}/data", API_RATE_LIMIT="0")
        began = time.monotonic()
        process.launch()
        try:
            if core is not None and process.process:
                psutil.Process(process.process.pid).cpu_affinity([core])  # threads inherit it
            return watch_start(process, began, began + limit)
        finally:
            process.stop()


def watch_start(process: Server, began: float, end: float) -> dict[str, float]:
    """Return after how many seconds since `began` each step was targets, and what the process used."""
    left: dict[str, Callable[[], bool]] = {
        "first response, s": lambda: get_json(process.url, "/livez") is not None,
        "rates, s": lambda: get_json(process.url, "/v1/courses") is not None,
        "a thousand hours, s": lambda: len((get_json(process.url, CHART) or {"candles": ()})["candles"]) >= CHART_HOURS,
        "all history, s": lambda: is_loaded(get_json(process.url, "/v1/exchanges")),
    }
    figures = dict[str, float]()
    while left and time.monotonic() < end:
        name, is_reached = next(iter(left.items()))
        if is_reached():
            figures[name] = round(time.monotonic() - began, 2)
            del left[name]
        else:
            time.sleep(POLL_SECONDS)
    if process.process:
        used = psutil.Process(process.process.pid)
        figures["CPU, s"] = round(sum(used.cpu_times()[:2]), 2)
        figures["memory, MB"] = round(used.memory_info().rss / 2**20)
    return {**figures, "longest stall, ms": longest_stall(process.url)}


def get_json(url: str, path: str) -> Any:
    """Return the decoded response, or None while there is none."""
    try:
        with urllib.request.urlopen(url + path, timeout=30) as response:  # noqa: S310  our own http URL
            return json.load(response)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def is_loaded(exchanges: Any) -> bool:
    """Return whether no history of any exchange is missing."""
    amounts = [each["history"] for each in exchanges["exchanges"]] if exchanges else []
    return bool(amounts) and all(each and each["missing"] == 0 for each in amounts)


def longest_stall(url: str) -> float:
    """Return the longest time that the event loop stood still, in ms, from the metrics of the process."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:  # noqa: S310  our own http URL
        match = re.search(r"^kurs_loop_longest_stall_seconds (\S+)", response.read().decode(), re.MULTILINE)
    if not match:
        raise RuntimeError("the metrics have no figure of the event loop")
    return round(float(match[1]) * 1000)


@contextmanager
def keep_cores_busy(cores: Sequence[int]) -> Iterator[None]:
    """Run a busy loop on each of these cores. Each is a session, because Linux shares a core between sessions."""
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
