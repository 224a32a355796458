"""At least 100 faults on the whole of Kurs, then every candle beside the truth: `make faults`.

Exits with 1 when a candle or a rate is not what it ought to be, and shows the first of them.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx

from loadtest.faults import rate_watch
from loadtest.faults.disks import small_disks
from loadtest.faults.fault_report import Found, page
from loadtest.faults.injection import happen
from loadtest.faults.kinds import CLOCK, KINDS, ONE, Scene
from loadtest.faults.schedule import plan
from loadtest.faults.supervisor import Supervisor
from services.adapters import sql
from services.core.conversion import collected
from services.core.model import Hole, HoleState
from services.settings import Settings
from tests import expected_analysis, expected_candles, servers
from tests.servers import Server
from tests.shifted_clock import ShiftedClock
from tests.system import QUICK, System, kurs, split

SETTLING = 300  # seconds after the last fault in which all must be well
SHOWN = 20  # differences


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--page", type=Path, default=Path("build/faults.md"), help="where the table is written")
    asked = parser.parse_args()
    try:
        with (
            small_disks({"postgres": 4_000, ONE: 1_000}) as disks,
            servers.private() as here,
            played(here, asked.seed, disks) as scene,
        ):
            try:
                return run(scene, asked)
            finally:
                keep_logs(here.folder, asked.page.parent / "faults")
    except servers.Missing as missing:
        print(f"faults: {missing}", file=sys.stderr)
        return 2


@contextmanager
def played(here: servers.Private, seed: int, disks: Mapping[str, Path]) -> Iterator[Scene]:
    """Kurs split over real servers, and a Kurs in one process, on the same simulated market."""
    if "postgres" in disks:
        (here.folder / "postgres").symlink_to(disks["postgres"])
    env = {**QUICK, "KURS_SIMULATOR_SEED": str(seed)}
    clocks = {name: ShiftedClock(here.folder / "clocks" / name) for name in KINDS if CLOCK.keys() <= KINDS[name].keys()}
    with split(here.folder, here, env, clocks) as system:
        own = {"KURS_SIMULATOR_URL": system.simulator, "KURS_DATA_DIR": str(data(here.folder, disks)), **env}
        one = kurs(here.folder, **own, **clocks[ONE].env)
        try:
            system.processes[ONE] = one.start()
            with Supervisor(struck(system)) as supervisor:
                yield Scene(system, here.postgres, here.rabbit, supervisor, clocks, disks)
        finally:
            one.stop()


def data(folder: Path, disks: Mapping[str, Path]) -> Path:
    """Where the one process keeps its data."""
    return disks.get(ONE, folder) / "data"


def run(scene: Scene, asked: argparse.Namespace) -> int:
    """Let the faults happen, wait until all is well, judge."""
    system, supervisor = scene.system, scene.supervisor
    past(system, time.time())  # the simulator takes its time to make it up, which is not what is tried here
    until_complete(system)
    began = time.time()
    with rate_watch.Watch(system.url) as watch:
        happened = happen(scene, plan(asked.seed, asked.faults, scene.disks))
        over = time.time()
        true = past(system, over)
        wrong = [*settled("candles", lambda: list(expected_candles.differences(true, system.url, system.database)))]
        well = time.time()
        one = system.processes[ONE]
        (file,) = Path(one.env["KURS_DATA_DIR"]).glob("*.db")
        wrong += settled(
            "candles of one process",
            lambda: list(expected_candles.differences(true, one.url, f"sqlite+aiosqlite:///{file}")),
        )
        rows = 0

        def look() -> list[expected_candles.Difference]:
            nonlocal rows
            rows, found = expected_analysis.compared(system.simulator, system.database, true)
            return found

        untrue = settled("rows of the analyst", look)
    sealed = verify(system)
    print(*islice(wrong, SHOWN), *islice(untrue, SHOWN), sep="\n")
    off = max(rate_watch.off(watch.looks, system.simulator, Settings(_env_file=None).assets))
    old = rate_watch.old(watch.looks)
    print(f"most off: {off}", *islice(old, SHOWN), sep="\n")
    found = Found(
        seed=asked.seed,
        seconds=over - began,
        settled=well - over,
        candles=2 * sum(map(len, true.values())),
        series=len(true),
        differences=len(wrong),
        rows=rows,
        untrue=len(untrue),
        verified=sealed.stdout.splitlines()[-1] if sealed.stdout else sealed.stderr,
        looks=len(watch.looks),
        availability=rate_watch.availability(watch.looks),
        off=off[0],
        old=len(old),
        starts=supervisor.starts,
        happened=happened,
        spells=list(rate_watch.spells(watch.looks)),
        holes=asyncio.run(holes(system.database)),
    )
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(page(found))
    print(page(found))
    return int(bool(wrong or untrue or old or sealed.returncode or found.off > rate_watch.WRONG))


def until_complete(system: System) -> None:
    """Wait until every direction has a rate. Raises RuntimeError when that takes too long."""
    deadline, directions = time.monotonic() + 60, len(Settings(_env_file=None).directions)
    while len((answer := httpx.get(f"{system.url}/v1/courses")).json().get("courses", ())) < directions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the rates are not complete: {answer.text}")
        time.sleep(0.2)


def struck(system: System) -> dict[str, Server]:
    """What the faults may hit: all but the market and nginx."""
    others = ("simulator", "nginx")
    return {name: each for name, each in (system.processes | system.servers).items() if name not in others}


def past(system: System, until: float) -> expected_candles.Truth:
    """Every candle of Binance that is closed then and ought to be kept."""
    settings = Settings(_env_file=None)
    instruments = collected("binance", settings.directions, settings.assets, settings.symbols)
    return expected_candles.truth(
        system.simulator, expected_candles.history(instruments, settings.history_bars, int(until * 1000))
    )


def settled(what: str, look: Callable[[], list[expected_candles.Difference]]) -> Sequence[expected_candles.Difference]:
    """What is still not as it ought to be when time is up."""
    deadline = time.monotonic() + SETTLING
    while True:
        wrong = look()
        if not wrong or time.monotonic() > deadline:
            return wrong
        print(f"{len(wrong)} {what} are not as they ought to be yet, such as {wrong[0]}", file=sys.stderr)
        time.sleep(5)


def verify(system: System) -> subprocess.CompletedProcess[str]:
    """What `kurs verify` says of the days that are sealed."""
    env = {**os.environ, "DATABASE_URL": system.database, "KURS_MARKET": "simulated"}
    command = [sys.executable, "-m", "services", "verify"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603


def keep_logs(folder: Path, to: Path) -> None:
    """What the processes and servers wrote, for whoever looks for a fault's cause."""
    to.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*/log"):
        shutil.copy(log, to / f"{log.parent.name}.log")


async def holes(database: str) -> list[Hole]:
    """All that were repaired."""
    store = await sql.connect(database)
    try:
        return await store.holes(HoleState.REPAIRED)
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
