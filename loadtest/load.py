"""One minute of load on all services of Kurs, each in its own process on this machine: `make load`.

Exits with 1 when a target is missed.
"""

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx

from loadtest import results
from loadtest.rate_probe import RateProbe
from loadtest.results import LoadResult, LoadSecond, RequestKind, Target
from loadtest.sign_in_crowd import CROWD_SETTINGS, sign_in_targets
from services.settings import Settings
from tests import servers
from tests.system import distributed

LOAD_SECONDS = 60
USERS = 80  # each sends 20 requests a second: 1,600 together
MIN_REQUESTS_PER_SECOND, MAX_P99_MS = 1500, 50
LOAD_SETTINGS = {
    "KURS_HISTORY_BARS": "0",  # for a backfill, the simulator would compute years of trades meanwhile
    **CROWD_SETTINGS,
}
ROOT = Path(__file__).parents[1]
ALL = "Aggregated"  # locust's name for all requests together
PERCENTILES = ("50%", "75%", "90%", "95%", "99%", "99.9%", "100%")


def main() -> int:
    """Run the load. Return 1 when a target is missed."""
    try:
        with servers.private_servers() as private, distributed(private.folder, private, LOAD_SETTINGS) as system:
            url = f"{system.url}/v1/courses"
            until_complete(url, len(Settings(_env_file=None).directions))
            with RateProbe(url) as probe:
                output = locust(system.url, private.folder)
            crowd = sign_in_targets(system.processes["api 1"].url)
            kinds, seconds = list(request_kinds(output)), list(load_seconds(output))
    except servers.NotInstalled as missing:
        print(f"load: {missing}", file=sys.stderr)
        return 2
    targets = load_targets(kinds[-1]) + probe.targets() + crowd
    print(table(kinds), *targets, sep="\n")
    result = LoadResult(results.machine_info(), kinds, seconds, probe.samples, targets)
    print(f"written to {results.save_result('load', result)}; python -m loadtest.report draws it")
    return 0 if all(target.reached for target in targets) else 1


def until_complete(url: str, directions: int) -> None:
    """Wait until every direction has a rate. Raises RuntimeError when that takes too long."""
    deadline = time.monotonic() + 60
    while len((response := httpx.get(url)).json().get("courses", ())) < directions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the rates are not complete: {response.text}")
        time.sleep(0.1)


def locust(url: str, folder: Path) -> Path:
    """Run the clients. Return the prefix of the files that locust wrote."""
    prefix = folder / "locust"
    command = [sys.executable, "-m", "locust", "--locustfile", str(ROOT / "loadtest/locustfile.py"), "--host", url]
    command += ["--headless", "--only-summary", "--users", str(USERS), "--spawn-rate", str(USERS), "--reset-stats"]
    command += ["--run-time", f"{LOAD_SECONDS}s", "--stop-timeout", "5", "--csv", str(prefix), "--csv-full-history"]
    print(f"{USERS} clients for {LOAD_SECONDS} s", file=sys.stderr)
    with (folder / "locust.log").open("wb") as log:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        limit = LOAD_SECONDS + 60
        ran = subprocess.run(command, cwd=folder, env=env, stdout=log, stderr=log, timeout=limit, check=False)  # noqa: S603
    if ran.returncode not in (0, 1):  # 1: some requests failed, which the figures contain
        raise RuntimeError((folder / "locust.log").read_text()[-2000:])
    return prefix


def request_kinds(prefix: Path) -> Iterator[RequestKind]:
    """Yield the kinds of requests, all requests together last."""
    for line in read_csv(prefix.with_name(f"{prefix.name}_stats.csv")):
        shares = {name: float(line[name]) for name in PERCENTILES}
        rate = round(float(line["Requests/s"]), 1)
        yield RequestKind(line["Name"], int(line["Request Count"]), int(line["Failure Count"]), rate, shares)


def load_seconds(prefix: Path) -> Iterator[LoadSecond]:
    """Yield the load of each second.

    The rates are differences of locust's totals. The percentiles are locust's, over the last ten seconds.
    """
    rows = [line for line in read_csv(prefix.with_name(f"{prefix.name}_stats_history.csv")) if line["Name"] == ALL]
    rows = [row for row in rows if row["50%"] != "N/A"]
    for before, row in pairwise(rows):
        step, at = (float(row["Timestamp"]) - float(other["Timestamp"]) for other in (before, rows[0]))
        rate, failures = (
            (float(row[total]) - float(before[total])) / max(step, 1)
            for total in ("Total Request Count", "Total Failure Count")
        )
        yield LoadSecond(at, round(rate), round(failures), float(row["50%"]), float(row["95%"]), float(row["99%"]))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def load_targets(total: RequestKind) -> list[Target]:
    """Return the targets of all requests together."""
    return [
        Target("requests a second", total.rate, at_least=MIN_REQUESTS_PER_SECOND),
        Target("failures", total.failures, at_most=0),
        Target("99 % of the responses, ms", total.percentiles["99%"], at_most=MAX_P99_MS),
    ]


def table(kinds: list[RequestKind]) -> str:
    """Format the kinds of requests for a terminal."""
    head = f"{'':30}{'requests':>10}{'failed':>8}{'per s':>9}" + "".join(f"{name:>8}" for name in PERCENTILES)
    rows = [
        f"{kind.name:30}{kind.requests:10,}{kind.failures:8}{kind.rate:9,.1f}"
        + "".join(f"{kind.percentiles[name]:8.0f}" for name in PERCENTILES)
        for kind in kinds
    ]
    return "\n".join([head + " ms", *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
