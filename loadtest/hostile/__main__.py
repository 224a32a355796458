"""Minutes in which clients, messages, exchanges and clocks mean harm to the whole of Kurs: `make hostile`.

Exits with 1 when the honest client was refused without a reason or had to wait, when a service grew or ended, or when
a candle is not what it ought to be.
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
SETTLE_SECONDS = 150  # from the end to the whole truth: minutes have to end, and to be requested
SIMULATOR_FAULTS = ("drop", "kill", "mute", "garbage", "duplicate", "reorder", "delay", "unknown_enum")
CLOCKS = ("pricer", "writer", "api 1", "collector binance")
CLOCK_STEPS_SECONDS = (-86_400, -3_600, -180, 180, 3_600, 86_400)  # seconds
SAMPLE_SECONDS = 2  # between two looks at the memory


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--page", type=Path, default=Path("build/hostile.md"), help="where the findings are written")
    asked = parser.parse_args()
    try:
        with servers.private_servers() as here:
            clocks = {name: ShiftedClock(here.folder / "clocks" / name) for name in CLOCKS}
            env = {**FAST_SETTINGS, "KURS_SIMULATOR_SEED": str(asked.seed), "KURS_HISTORY_BARS": "0"}
            with distributed(here.folder, here, env, clocks) as system:
                found = run(system, clocks, asked.seed, 60 * asked.minutes)
    except servers.NotInstalled as missing:
        print(f"hostile: {missing}", file=sys.stderr)
        return 2
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(render_report(found))
    print(render_report(found))
    return int(bool(found.failures or found.slow))


def run(system: System, clocks: Mapping[str, ShiftedClock], seed: int, seconds: float) -> HostileRunResult:
    """Let all of them run for this time, then judge."""
    until_served(system)
    began, deadline = int(time.time() * 1000), time.monotonic() + seconds
    attackers = start_attackers(system, seconds, seed)
    with MemoryMonitor(system) as memory, HonestClient(system.url) as honest:
        broker = threading.Thread(
            target=lambda: asyncio.run(hostile_messages.publish_until(deadline, system.broker, Random(seed)))
        )
        broker.start()
        steps = inject_faults(system, clocks, deadline, Random(seed))
        broker.join()
        attacks = int(attackers.communicate(timeout=60)[0] or 0)
    ended = [
        name for name, process in system.processes.items() if process.process and process.process.poll() is not None
    ]
    return HostileRunResult(
        seed, seconds, attacks, steps, honest, memory.growth(), ended, candle_differences(system, began)
    )


def until_served(system: System) -> None:
    """Wait until there are rates and candles. Raises RuntimeError."""
    deadline = time.monotonic() + 60
    while not all(_served(system, path) for path in ("/v1/courses", "/api/chart-data?symbol=BTCUSDT&timeframe=1m")):
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is served")
        time.sleep(0.3)


def _served(system: System, path: str) -> bool:
    return httpx.get(system.url + path, timeout=10).status_code == 200


def start_attackers(system: System, seconds: float, seed: int) -> subprocess.Popen[str]:
    """The hostile clients, in a process of their own; it prints how many attacks there were."""
    urls = [system.url, *(system.processes[name].url for name in ("api 1", "api 2"))]
    ports = [url.rpartition(":")[2] for url in urls]
    command = [sys.executable, "-m", "loadtest.hostile.attacks", str(seconds), str(seed), *ports]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


def inject_faults(system: System, clocks: Mapping[str, ShiftedClock], deadline: float, chance: Random) -> int:
    """Exchanges that fail and clocks that are set, one after the other; answers how many."""
    count = 0
    while (left := deadline - time.monotonic()) > 0:
        seconds = min(left, chance.uniform(3, 10))
        if not clocks or chance.random() < 0.5:
            fault = {"exchange": chance.choice(("binance", "deribit")), "fault": chance.choice(SIMULATOR_FAULTS)}
            body = fault | ({} if fault["fault"] == "drop" else {"seconds": seconds})
            httpx.post(f"{system.simulator}/faults", json=body, timeout=30).raise_for_status()
            time.sleep(seconds)
        else:
            clock = chance.choice(list(clocks.values()))
            clock.set(chance.choice(CLOCK_STEPS_SECONDS))
            time.sleep(seconds)
            clock.set(0)
        time.sleep(min(max(0.0, deadline - time.monotonic()), chance.uniform(0, 3)))
        count += 1
    return count


class MemoryMonitor(BackgroundThread):
    """What each service holds, from its start to its end, which a `with` block marks."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self._processes = system.processes
        self._megabytes: defaultdict[str, list[float]] = defaultdict(list)

    def run(self) -> None:
        """Look until the end."""
        while not self.stop_requested.wait(SAMPLE_SECONDS):
            for name, server in self._processes.items():
                if server.process and server.process.poll() is None:
                    self._megabytes[name].append(sum(map(resident_megabytes, process_tree(server.process.pid))))

    def growth(self) -> list[MemoryGrowth]:
        """From the second quarter of the time to the last one."""
        found = []
        for name, values in self._megabytes.items():
            quarter = max(1, len(values) // 4)
            found.append(MemoryGrowth(name, median(values[quarter : 2 * quarter] or values), median(values[-quarter:])))
        return found


def resident_megabytes(pid: int) -> float:
    """Megabytes in memory; 0 for a process that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * 4_096 / 1e6


def candle_differences(system: System, began: int) -> list[str]:
    """What of the candles of that time is not as the exchange has it when time is up."""
    over = TIMEFRAMES["1m"].close_time(TIMEFRAMES["1m"].open_time(int(time.time() * 1000)))
    time.sleep(max(0.0, over / 1000 - time.time()))
    spans = {}
    for series in SERIES:
        frame = TIMEFRAMES[series.timeframe]
        spans[series] = frame.open_time(began), frame.step_back(frame.open_time(over), 1)
    true, deadline = expected_candles.fetch_expected(system.simulator, spans), time.monotonic() + SETTLE_SECONDS
    while (wrong := _differences(true, system)) and time.monotonic() < deadline:
        time.sleep(2)
    return wrong


def _differences(true: expected_candles.ExpectedCandles, system: System) -> list[str]:
    try:
        return list(map(str, expected_candles.differences(true, system.url, system.database)))
    except httpx.HTTPError as error:
        return [f"candles are not answered: {error!r}"]


if __name__ == "__main__":
    sys.exit(main())
