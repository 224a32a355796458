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

from loadtest.hostile import hostile_messages
from loadtest.hostile.honest_client import Honest
from loadtest.hostile.hostile_report import Found, Growth, page
from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from tests import expected_candles, servers
from tests.servers.process import family
from tests.shifted_clock import ShiftedClock
from tests.system import QUICK, System, split

SERIES = [Series("binance", Instrument(base, "USDT"), name) for base in ("BTC", "ETH") for name in ("1m", "3m", "5m")]
SETTLING = 150  # seconds from the end to the whole truth: minutes have to end, and to be asked for
WIRE = ("drop", "kill", "mute", "garbage", "duplicate", "reorder", "delay", "unknown_enum")
CLOCKS = ("pricer", "writer", "api 1", "collector binance")
STEPS = (-86_400, -3_600, -180, 180, 3_600, 86_400)  # seconds
SAMPLE = 2  # seconds between two looks at the memory


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--page", type=Path, default=Path("build/hostile.md"), help="where the findings are written")
    asked = parser.parse_args()
    try:
        with servers.private() as here:
            clocks = {name: ShiftedClock(here.folder / "clocks" / name) for name in CLOCKS}
            env = {**QUICK, "KURS_SIMULATOR_SEED": str(asked.seed), "KURS_HISTORY_BARS": "0"}
            with split(here.folder, here, env, clocks) as system:
                found = run(system, clocks, asked.seed, 60 * asked.minutes)
    except servers.Missing as missing:
        print(f"hostile: {missing}", file=sys.stderr)
        return 2
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(page(found))
    print(page(found))
    return int(bool(found.failures or found.slow))


def run(system: System, clocks: Mapping[str, ShiftedClock], seed: int, seconds: float) -> Found:
    """Let all of them do what they do for so long, then judge."""
    until_served(system)
    began, deadline = int(time.time() * 1000), time.monotonic() + seconds
    attackers = attack(system, seconds, seed)
    with Memory(system) as memory, Honest(system.url) as honest:
        broker = threading.Thread(
            target=lambda: asyncio.run(hostile_messages.publish_until(deadline, system.broker, Random(seed)))
        )
        broker.start()
        steps = disturb(system, clocks, deadline, Random(seed))
        broker.join()
        attacks = int(attackers.communicate(timeout=60)[0] or 0)
    ended = [
        name for name, process in system.processes.items() if process.process and process.process.poll() is not None
    ]
    return Found(seed, seconds, attacks, steps, honest, memory.growth(), ended, compared(system, began))


def until_served(system: System) -> None:
    """Wait until there are rates and candles. Raises RuntimeError."""
    deadline = time.monotonic() + 60
    while not all(_served(system, path) for path in ("/v1/courses", "/api/chart-data?symbol=BTCUSDT&timeframe=1m")):
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is served")
        time.sleep(0.3)


def _served(system: System, path: str) -> bool:
    return httpx.get(system.url + path, timeout=10).status_code == 200


def attack(system: System, seconds: float, seed: int) -> subprocess.Popen[str]:
    """The hostile clients, in a process of their own; it prints how many attacks there were."""
    urls = [system.url, *(system.processes[name].url for name in ("api 1", "api 2"))]
    ports = [url.rpartition(":")[2] for url in urls]
    command = [sys.executable, "-m", "loadtest.hostile.clients", str(seconds), str(seed), *ports]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


def disturb(system: System, clocks: Mapping[str, ShiftedClock], deadline: float, chance: Random) -> int:
    """Exchanges that fail and clocks that are set, one after the other; answers how many."""
    count = 0
    while (left := deadline - time.monotonic()) > 0:
        seconds = min(left, chance.uniform(3, 10))
        if not clocks or chance.random() < 0.5:
            fault = {"exchange": chance.choice(("binance", "deribit")), "fault": chance.choice(WIRE)}
            body = fault | ({} if fault["fault"] == "drop" else {"seconds": seconds})
            httpx.post(f"{system.simulator}/faults", json=body, timeout=30).raise_for_status()
            time.sleep(seconds)
        else:
            clock = chance.choice(list(clocks.values()))
            clock.set(chance.choice(STEPS))
            time.sleep(seconds)
            clock.set(0)
        time.sleep(min(max(0.0, deadline - time.monotonic()), chance.uniform(0, 3)))
        count += 1
    return count


class Memory(threading.Thread):
    """What each service holds, from its start to its end, which a `with` block marks."""

    def __init__(self, system: System) -> None:
        super().__init__(daemon=True)
        self._processes, self._over = system.processes, threading.Event()
        self._megabytes: defaultdict[str, list[float]] = defaultdict(list)

    def __enter__(self) -> "Memory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until the end."""
        while not self._over.wait(SAMPLE):
            for name, server in self._processes.items():
                if server.process and server.process.poll() is None:
                    self._megabytes[name].append(sum(map(resident, family(server.process.pid))))

    def growth(self) -> list[Growth]:
        """From the second quarter of the time to the last one."""
        found = []
        for name, values in self._megabytes.items():
            quarter = max(1, len(values) // 4)
            found.append(Growth(name, median(values[quarter : 2 * quarter] or values), median(values[-quarter:])))
        return found


def resident(pid: int) -> float:
    """Megabytes in memory; 0 for a process that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * 4_096 / 1e6


def compared(system: System, began: int) -> list[str]:
    """What of the candles of that time is not as the exchange has it when time is up."""
    over = TIMEFRAMES["1m"].closing(TIMEFRAMES["1m"].opening(int(time.time() * 1000)))
    time.sleep(max(0.0, over / 1000 - time.time()))
    spans = {}
    for series in SERIES:
        frame = TIMEFRAMES[series.timeframe]
        spans[series] = frame.opening(began), frame.back(frame.opening(over), 1)
    true, deadline = expected_candles.truth(system.simulator, spans), time.monotonic() + SETTLING
    while (wrong := _differences(true, system)) and time.monotonic() < deadline:
        time.sleep(2)
    return wrong


def _differences(true: expected_candles.Truth, system: System) -> list[str]:
    try:
        return list(map(str, expected_candles.differences(true, system.url, system.database)))
    except httpx.HTTPError as error:
        return [f"candles are not answered: {error!r}"]


if __name__ == "__main__":
    sys.exit(main())
