"""A hundred faults of all parts of Kurs, after which every candle is compared with the exchange's: `make faults`.

Exits with 1 when a candle or a rate differs from the expected one, and prints the first differences.
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

SETTLE_SECONDS = 300  # after the last fault, until no difference may be left
MAX_SHOWN = 20  # of the differences


def main() -> int:
    """Run the faults. Return 1 when a difference is left."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--page", type=Path, default=Path("build/faults.md"), help="where the table is written")
    args = parser.parse_args()
    try:
        with (
            small_disks({"postgres": 4_000, ONE_PROCESS: 1_000}) as disks,
            servers.private_servers() as private,
            start_both(private, args.seed, disks) as targets,
        ):
            try:
                return run(targets, args)
            finally:
                copy_logs(private.folder, args.page.parent / "faults")
    except servers.NotInstalled as missing:
        print(f"faults: {missing}", file=sys.stderr)
        return 2


@contextmanager
def start_both(private: servers.PrivateServers, seed: int, disks: Mapping[str, Path]) -> Iterator[FaultTargets]:
    """Run Kurs split over real servers, and Kurs in single process, on the same simulated market."""
    if "postgres" in disks:
        (private.folder / "postgres").symlink_to(disks["postgres"])
    env = {**FAST_SETTINGS, "KURS_SIMULATOR_SEED": str(seed)}
    clocks = {
        name: ShiftedClock(private.folder / "clocks" / name) for name in KINDS if CLOCK.keys() <= KINDS[name].keys()
    }
    with distributed(private.folder, private, env, clocks) as system:
        own = {"KURS_SIMULATOR_URL": system.simulator, "KURS_DATA_DIR": str(data_folder(private.folder, disks)), **env}
        single = kurs_process(private.folder, **own, **clocks[ONE_PROCESS].env)
        try:
            system.processes[ONE_PROCESS] = single.start()
            with Supervisor(fault_targets(system)) as supervisor:
                yield FaultTargets(system, private.postgres, private.rabbit, supervisor, clocks, disks)
        finally:
            single.stop()


def data_folder(folder: Path, disks: Mapping[str, Path]) -> Path:
    """Return the data folder of the single process."""
    return disks.get(ONE_PROCESS, folder) / "data"


def run(targets: FaultTargets, args: argparse.Namespace) -> int:
    """Inject the faults, wait until no difference is left, and write the report."""
    system, supervisor = targets.system, targets.supervisor
    expected_spans(system, time.time())  # the simulator computes and caches it, which takes long
    until_complete(system)
    began = time.time()
    with rate_watch.RateWatch(system.url) as watch:
        injected = inject(targets, schedule(args.seed, args.faults, targets.disks))
        ended = time.time()
        expected = expected_spans(system, ended)
        differences = [
            *wait_for_no_differences(
                "candles", lambda: list(expected_candles.differences(expected, system.url, system.database))
            )
        ]
        settled = time.time()
        single = system.processes[ONE_PROCESS]
        (file,) = Path(single.env["KURS_DATA_DIR"]).glob("*.db")
        differences += wait_for_no_differences(
            "candles of one process",
            lambda: list(expected_candles.differences(expected, single.url, f"sqlite+aiosqlite:///{file}")),
        )
        rows = 0

        def compare_rows() -> list[expected_candles.Difference]:
            nonlocal rows
            rows, found = expected_analysis.compare(system.simulator, system.database, expected)
            return found

        row_differences = wait_for_no_differences("rows of the analyst", compare_rows)
    verified = verify(system)
    print(*islice(differences, MAX_SHOWN), *islice(row_differences, MAX_SHOWN), sep="\n")
    largest = max(rate_watch.deviations(watch.answers, system.simulator, Settings(_env_file=None).assets))
    stale = rate_watch.stale_answers(watch.answers)
    print(f"largest deviation: {largest}", *islice(stale, MAX_SHOWN), sep="\n")
    result = FaultRunResult(
        seed=args.seed,
        seconds=ended - began,
        settle_seconds=settled - ended,
        candles=2 * sum(map(len, expected.values())),
        series=len(expected),
        differences=len(differences),
        rows=rows,
        row_differences=len(row_differences),
        verified=verified.stdout.splitlines()[-1] if verified.stdout else verified.stderr,
        requests=len(watch.answers),
        availability=rate_watch.availability(watch.answers),
        deviation=largest[0],
        stale=len(stale),
        starts=supervisor.starts,
        injected=injected,
        outages=list(rate_watch.outages(watch.answers)),
        gaps=asyncio.run(repaired_gaps(system.database)),
    )
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(render_report(result))
    print(render_report(result))
    failed = differences or row_differences or stale or verified.returncode
    return int(bool(failed or result.deviation > rate_watch.MAX_DEVIATION_SHARE))


def until_complete(system: System) -> None:
    """Wait until every direction has a rate. Raises RuntimeError when that takes too long."""
    deadline, directions = time.monotonic() + 60, len(Settings(_env_file=None).directions)
    while len((response := httpx.get(f"{system.url}/v1/courses")).json().get("courses", ())) < directions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the rates are not complete: {response.text}")
        time.sleep(0.2)


def fault_targets(system: System) -> dict[str, Server]:
    """Return the targets of faults: all processes and servers but the simulator and nginx."""
    others = ("simulator", "nginx")
    return {name: each for name, each in (system.processes | system.servers).items() if name not in others}


def expected_spans(system: System, until: float) -> expected_candles.ExpectedCandles:
    """Return every candle of Binance that must be stored and is closed at `until`."""
    settings = Settings(_env_file=None)
    instruments = instruments_to_collect("binance", settings)
    return expected_candles.fetch_expected(
        system.simulator, expected_candles.history_spans(instruments, settings.history_bars, int(until * 1000))
    )


def wait_for_no_differences(
    what: str, compare: Callable[[], list[expected_candles.Difference]]
) -> Sequence[expected_candles.Difference]:
    """Compare until no difference is left. Return the differences that are left after `SETTLE_SECONDS`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        differences = compare()
        if not differences or time.monotonic() > deadline:
            return differences
        print(f"{len(differences)} {what} differ from the expected ones, such as {differences[0]}", file=sys.stderr)
        time.sleep(5)


def verify(system: System) -> subprocess.CompletedProcess[str]:
    """Run `kurs verify`, which checks the seals."""
    env = {**os.environ, "DATABASE_URL": system.database, "KURS_MARKET": "simulated"}
    command = [sys.executable, "-m", "services", "verify"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603


def copy_logs(folder: Path, to: Path) -> None:
    """Copy the logs of processes and servers, to find the cause of a failure."""
    to.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*/log"):
        shutil.copy(log, to / f"{log.parent.name}.log")


async def repaired_gaps(database: str) -> list[CandleGap]:
    """Return the repaired candle gaps."""
    store = await sql.connect(database)
    try:
        return await store.candle_gaps(CandleGapState.REPAIRED)
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
