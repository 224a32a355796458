"""Minutes of hostile clients, messages, exchanges and clocks on all of Kurs: `make hostile`.

Exits with 1 when the honest client was refused without a reason or had to wait, when the memory of a service grew, when
a service ended, or when a candle differs from the exchange's.
"""

import argparse
import asyncio
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random
from statistics import median

import httpx

from loadtest.background import BackgroundThread
from loadtest.hostile import hostile_messages
from loadtest.hostile.honest_client import HonestClient
from loadtest.hostile.hostile_report import HostileRunResult, MemoryGrowth, render_report
from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from tests import expected_candles, servers
from tests.servers.process import process_tree
from tests.shifted_clock import ShiftedClock
from tests.system import FAST_SETTINGS, System, distributed

SERIES = [Series("binance", Instrument(base, "USDT"), name) for base in ("BTC", "ETH") for name in ("1m", "3m", "5m")]
SETTLE_SECONDS = 150  # until no difference may be left: the last minute must end, and be requested
SIMULATOR_FAULTS = ("drop", "kill", "mute", "garbage", "duplicate", "reorder", "delay", "unknown_enum")
CLOCKS = ("pricer", "writer", "api 1", "collector binance")
CLOCK_STEPS_SECONDS = (-86_400, -3_600, -180, 180, 3_600, 86_400)
SAMPLE_SECONDS = 2


def main() -> int:
    """Run the attacks. Return 1 when Kurs failed."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--page", type=Path, default=Path("build/hostile.md"), help="where the report is written")
    args = parser.parse_args()
    try:
        with servers.private_servers() as private:
            clocks = {name: ShiftedClock(private.folder / "clocks" / name) for name in CLOCKS}
            env = {**FAST_SETTINGS, "KURS_SIMULATOR_SEED": str(args.seed), "KURS_HISTORY_BARS": "0"}
            with distributed(private.folder, private, env, clocks) as system:
                result = run(system, clocks, args.seed, 60 * args.minutes)
    except servers.NotInstalled as missing:
        print(f"hostile: {missing}", file=sys.stderr)
        return 2
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(render_report(result))
    print(render_report(result))
    return int(bool(result.failures or result.slow))


def run(system: System, clocks: Mapping[str, ShiftedClock], seed: int, seconds: float) -> HostileRunResult:
    """Run all attacks and faults for this time. Return the result."""
    until_served(system)
    began, deadline = int(time.time() * 1000), time.monotonic() + seconds
    attackers = start_attackers(system, seconds, seed)
    with MemoryMonitor(system) as memory, HonestClient(system.url) as honest:
        broker = threading.Thread(
            target=lambda: asyncio.run(hostile_messages.publish_until(deadline, system.broker, Random(seed)))
        )
        broker.start()
        faults = inject_faults(system, clocks, deadline, Random(seed))
        broker.join()
        attacks = int(attackers.communicate(timeout=60)[0] or 0)
    ended = [
        name for name, process in system.processes.items() if process.process and process.process.poll() is not None
    ]
    return HostileRunResult(
        seed, seconds, attacks, faults, honest, memory.growth(), ended, candle_differences(system, began)
    )


def until_served(system: System) -> None:
    """Wait until rates and candles are served. Raises RuntimeError when that takes too long."""
    deadline = time.monotonic() + 60
    while not all(_served(system, path) for path in ("/v1/courses", "/api/chart-data?symbol=BTCUSDT&timeframe=1m")):
        if time.monotonic() > deadline:
            raise RuntimeError("rates or candles are not served")
        time.sleep(0.3)


def _served(system: System, path: str) -> bool:
    return httpx.get(system.url + path, timeout=10).status_code == 200


def start_attackers(system: System, seconds: float, seed: int) -> subprocess.Popen[str]:
    """Start the process of the hostile clients. At its end it prints the number of attacks."""
    urls = [system.url, *(system.processes[name].url for name in ("api 1", "api 2"))]
    ports = [url.rpartition(":")[2] for url in urls]
    command = [sys.executable, "-m", "loadtest.hostile.attacks", str(seconds), str(seed), *ports]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


def inject_faults(system: System, clocks: Mapping[str, ShiftedClock], deadline: float, rng: Random) -> int:
    """Inject faults of exchanges and set clocks, one after the other. Return their number."""
    count = 0
    while (left := deadline - time.monotonic()) > 0:
        seconds = min(left, rng.uniform(3, 10))
        if not clocks or rng.random() < 0.5:
            fault = {"exchange": rng.choice(("binance", "deribit")), "fault": rng.choice(SIMULATOR_FAULTS)}
            body = fault | ({} if fault["fault"] == "drop" else {"seconds": seconds})
            httpx.post(f"{system.simulator}/faults", json=body, timeout=30).raise_for_status()
            time.sleep(seconds)
        else:
            clock = rng.choice(list(clocks.values()))
            clock.set(rng.choice(CLOCK_STEPS_SECONDS))
            time.sleep(seconds)
            clock.set(0)
        time.sleep(min(max(0.0, deadline - time.monotonic()), rng.uniform(0, 3)))
        count += 1
    return count


class MemoryMonitor(BackgroundThread):
    """A thread that samples the memory of each service. A `with` block starts and stops it."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self._processes = system.processes
        self._megabytes: defaultdict[str, list[float]] = defaultdict(list)

    def run(self) -> None:
        """Sample until the thread is stopped."""
        while not self.stop_requested.wait(SAMPLE_SECONDS):
            for name, server in self._processes.items():
                if server.process and server.process.poll() is None:
                    self._megabytes[name].append(sum(map(resident_megabytes, process_tree(server.process.pid))))

    def growth(self) -> list[MemoryGrowth]:
        """Return the growth of each service from the second to the last quarter of the time."""
        growth = []
        for name, values in self._megabytes.items():
            quarter = max(1, len(values) // 4)
            growth.append(
                MemoryGrowth(name, median(values[quarter : 2 * quarter] or values), median(values[-quarter:]))
            )
        return growth


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process in megabytes, 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * 4_096 / 1e6


def candle_differences(system: System, began: int) -> list[str]:
    """Return how the candles since `began` differ from the exchange's, `SETTLE_SECONDS` after the last one."""
    end = TIMEFRAMES["1m"].close_time(TIMEFRAMES["1m"].open_time(int(time.time() * 1000)))
    time.sleep(max(0.0, end / 1000 - time.time()))
    spans = {}
    for series in SERIES:
        frame = TIMEFRAMES[series.timeframe]
        spans[series] = frame.open_time(began), frame.step_back(frame.open_time(end), 1)
    expected, deadline = expected_candles.fetch_expected(system.simulator, spans), time.monotonic() + SETTLE_SECONDS
    while (differences := _differences(expected, system)) and time.monotonic() < deadline:
        time.sleep(2)
    return differences


def _differences(expected: expected_candles.ExpectedCandles, system: System) -> list[str]:
    try:
        return list(map(str, expected_candles.differences(expected, system.url, system.database)))
    except httpx.HTTPError as error:
        return [f"candles could not be requested: {error!r}"]


if __name__ == "__main__":
    sys.exit(main())
