"""The results of runs, which are written to `build/load/` and read by the report."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

from tests.servers import find_program

MAX_RATE_AGE_MS = 5_000  # of rates that are served as fresh
RESULTS_FOLDER = Path(__file__).parents[1] / "build/load"


class MachineInfo(msgspec.Struct, frozen=True):
    """The machine and the date of a run."""

    date: str
    cores: int
    system: str
    versions: dict[str, str]


class PeerResult(msgspec.Struct, frozen=True):
    """One peer at a number of connections, the median of the rounds. `failed`: errors and responses of 400 and more."""

    name: str
    unchanged: bool
    connections: int
    rates: list[float]
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


class Target(msgspec.Struct, frozen=True):
    """A figure and its bound."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the value is within the bound."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def __str__(self) -> str:
        bound = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return f"{'reached' if self.reached else 'MISSED '}  {self.name}: {self.value:,.4g} ({bound})"


class RateProbeSample(msgspec.Struct, frozen=True):
    """One response with rates, `at` seconds after the start. `age_ms`: the age of its oldest quote."""

    at: float
    age_ms: int
    etag: str


class PeerBench(msgspec.Struct, frozen=True):
    """The result of a part of `make bench` that measures HTTP peers in turn."""

    machine: MachineInfo
    rows: list[PeerResult]
    targets: list[Target]


class FigureBench(msgspec.Struct, frozen=True):
    """The result of a part of `make bench` with single figures, by name. `aims`: targets that are not required."""

    machine: MachineInfo
    figures: dict[str, float]
    targets: list[Target]
    aims: list[Target] = []


class FanoutResult(msgspec.Struct, frozen=True):
    """One server at a number of sockets, the median of the rounds.

    `cpu_us`: CPU time of the server per message that a socket read. `kb`: memory of the server per connection.
    `delivered`: the share of the expected messages that were read in time.
    """

    name: str
    sockets: int
    stalled: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    kb: float
    delivered: float


class StreamBench(msgspec.Struct, frozen=True):
    """The result of the part of `make bench` that measures live streams. `aims`: targets that are not required."""

    machine: MachineInfo
    rows: list[FanoutResult]
    targets: list[Target]
    aims: list[Target]


class RequestKind(msgspec.Struct, frozen=True):
    """One kind of request under load. `percentiles`: response times in ms, by share (`99%`)."""

    name: str
    requests: int
    failures: int
    rate: float
    percentiles: dict[str, float]


class LoadSecond(msgspec.Struct, frozen=True):
    """The load of one second, `at` seconds after the start."""

    at: float
    rate: float
    failures: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class LoadResult(msgspec.Struct, frozen=True):
    """The result of `make load`."""

    machine: MachineInfo
    request_kinds: list[RequestKind]
    seconds: list[LoadSecond]
    samples: list[RateProbeSample]
    targets: list[Target]


def machine_info() -> MachineInfo:
    """Return this machine and today."""
    names = ("fastapi", "uvicorn", "uvloop", "httptools", "locust")
    versions = {"Python": platform.python_version(), **{name: version(name) for name in names}}
    nginx = subprocess.run([find_program("nginx"), "-v"], check=True, capture_output=True, text=True).stderr  # noqa: S603
    versions["nginx"] = nginx.strip().rpartition("/")[2]
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return MachineInfo(date, os.cpu_count() or 0, f"{platform.system()} {platform.machine()}", versions)


def save_and_exit_code(name: str, result: PeerBench | FigureBench | StreamBench) -> int:
    """Save the result of a part of `make bench` for `python -m loadtest.report`. Return the exit code of the part."""
    print(f"written to {save_result(name, result)}")
    return 0 if all(target.reached for target in result.targets) else 1


def save_result(name: str, result: PeerBench | FigureBench | StreamBench | LoadResult) -> Path:
    """Save a result. Return its path."""
    RESULTS_FOLDER.mkdir(parents=True, exist_ok=True)
    path = RESULTS_FOLDER / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return path
