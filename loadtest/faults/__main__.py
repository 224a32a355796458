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
from loadtest.faults.fault_report import FaultRunResult, render_report
from loadtest.faults.injection import inject
from loadtest.faults.kinds import CLOCK, KINDS, ONE_PROCESS, FaultTargets
from loadtest.faults.schedule import schedule
from loadtest.faults.supervisor import Supervisor
from services.adapters import sql
from services.core.model import CandleGap, CandleGapState
from services.exchanges import instruments_to_collect
from services.settings import Settings
from tests import expected_analysis, expected_candles, servers
from tests.servers import Server
from tests.shifted_clock import ShiftedClock
from tests.system import FAST_SETTINGS, System, distributed, kurs_process

SETTLE_SECONDS = 300  # after the last fault in which all must be well
MAX_SHOWN = 20  # differences


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--page", type=Path, default=Path("build/faults.md"), help="where the table is written")
    args = parser.parse_args()
    try:
        with (
            small_disks({"postgres": 4_000, ONE_PROCESS: 1_000}) as disks,
            servers.private_servers() as here,
            start_both(here, args.seed, disks) as scene,
        ):
            try:
                return run(scene, args)
            finally:
                keep_logs(here.folder, args.page.parent / "faults")
    except servers.NotInstalled as missing:
        print(f"faults: {missing}", file=sys.stderr)
        return 2


@contextmanager
def start_both(here: servers.PrivateServers, seed: int, disks: Mapping[str, Path]) -> Iterator[FaultTargets]:
    """Kurs split over real servers, and a Kurs in one process, on the same simulated market."""
    if "postgres" in disks:
        (here.folder / "postgres").symlink_to(disks["postgres"])
    env = {**FAST_SETTINGS, "KURS_SIMULATOR_SEED": str(seed)}
    clocks = {name: ShiftedClock(here.folder / "clocks" / name) for name in KINDS if CLOCK.keys() <= KINDS[name].keys()}
    with distributed(here.folder, here, env, clocks) as system:
        own = {"KURS_SIMULATOR_URL": system.simulator, "KURS_DATA_DIR": str(data_settings(here.folder, disks)), **env}
        one = kurs_process(here.folder, **own, **clocks[ONE_PROCESS].env)
        try:
            system.processes[ONE_PROCESS] = one.start()
            with Supervisor(fault_targets(system)) as supervisor:
                yield FaultTargets(system, here.postgres, here.rabbit, supervisor, clocks, disks)
        finally:
            one.stop()


def data_settings(folder: Path, disks: Mapping[str, Path]) -> Path:
    """Where the one process keeps its data."""
    return disks.get(ONE_PROCESS, folder) / "data"


def run(scene: FaultTargets, args: argparse.Namespace) -> int:
    """Let the faults happen, wait until all is well, judge."""
    system, supervisor = scene.system, scene.supervisor
    expected_spans(system, time.time())  # the simulator takes its time to make it up, which is not what is tried here
    until_complete(system)
    began = time.time()
    with rate_watch.RateWatch(system.url) as watch:
        happened = inject(scene, schedule(args.seed, args.faults, scene.disks))
        over = time.time()
        true = expected_spans(system, over)
        wrong = [
            *wait_for_no_differences(
                "candles", lambda: list(expected_candles.differences(true, system.url, system.database))
            )
        ]
        well = time.time()
        one = system.processes[ONE_PROCESS]
        (file,) = Path(one.env["KURS_DATA_DIR"]).glob("*.db")
        wrong += wait_for_no_differences(
            "candles of one process",
            lambda: list(expected_candles.differences(true, one.url, f"sqlite+aiosqlite:///{file}")),
        )
        rows = 0

        def look() -> list[expected_candles.Difference]:
            nonlocal rows
            rows, found = expected_analysis.compare(system.simulator, system.database, true)
            return found

        untrue = wait_for_no_differences("rows of the analyst", look)
    sealed = verify(system)
    print(*islice(wrong, MAX_SHOWN), *islice(untrue, MAX_SHOWN), sep="\n")
    off = max(rate_watch.max_deviation(watch.answers, system.simulator, Settings(_env_file=None).assets))
    old = rate_watch.stale_answers(watch.answers)
    print(f"most off: {off}", *islice(old, MAX_SHOWN), sep="\n")
    found = FaultRunResult(
        seed=args.seed,
        seconds=over - began,
        settled=well - over,
        candles=2 * sum(map(len, true.values())),
        series=len(true),
        differences=len(wrong),
        rows=rows,
        untrue=len(untrue),
        verified=sealed.stdout.splitlines()[-1] if sealed.stdout else sealed.stderr,
        looks=len(watch.answers),
        availability=rate_watch.availability(watch.answers),
        off=off[0],
        old=len(old),
        starts=supervisor.starts,
        injected=happened,
        outages=list(rate_watch.outages(watch.answers)),
        gaps=asyncio.run(repaired_gaps(system.database)),
    )
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(render_report(found))
    print(render_report(found))
    return int(bool(wrong or untrue or old or sealed.returncode or found.off > rate_watch.MAX_DEVIATION_SHARE))


def until_complete(system: System) -> None:
    """Wait until every direction has a rate. Raises RuntimeError when that takes too long."""
    deadline, directions = time.monotonic() + 60, len(Settings(_env_file=None).directions)
    while len((answer := httpx.get(f"{system.url}/v1/courses")).json().get("courses", ())) < directions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the rates are not complete: {answer.text}")
        time.sleep(0.2)


def fault_targets(system: System) -> dict[str, Server]:
    """What the faults may hit: all but the market and nginx."""
    others = ("simulator", "nginx")
    return {name: each for name, each in (system.processes | system.servers).items() if name not in others}


def expected_spans(system: System, until: float) -> expected_candles.ExpectedCandles:
    """Every candle of Binance that is closed then and ought to be kept."""
    settings = Settings(_env_file=None)
    instruments = instruments_to_collect("binance", settings)
    return expected_candles.fetch_expected(
        system.simulator, expected_candles.history_spans(instruments, settings.history_bars, int(until * 1000))
    )


def wait_for_no_differences(
    what: str, look: Callable[[], list[expected_candles.Difference]]
) -> Sequence[expected_candles.Difference]:
    """What is still not as it ought to be when time is up."""
    deadline = time.monotonic() + SETTLE_SECONDS
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
    """What the processes and servers wrote, to look for a fault's cause."""
    to.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*/log"):
        shutil.copy(log, to / f"{log.parent.name}.log")


async def repaired_gaps(database: str) -> list[CandleGap]:
    """All that were repaired."""
    store = await sql.connect(database)
    try:
        return await store.candle_gaps(CandleGapState.REPAIRED)
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
