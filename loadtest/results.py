"""What a run found, as it is written to `build/load/` and read by the report."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

from tests.servers import find_program

MAX_RATE_AGE_MS = 5_000  # of what is served as fresh
RESULTS_FOLDER = Path(__file__).parents[1] / "build/load"


class MachineInfo(msgspec.Struct, frozen=True):
    """Where and when."""

    date: str
    cores: int
    system: str
    versions: dict[str, str]


class PeerResult(msgspec.Struct, frozen=True):
    """One peer at a number of connections, the median of the rounds. `failed`: errors and answers of 400 and more."""

    name: str
    unchanged: bool
    connections: int
    rates: list[float]
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


class Target(msgspec.Struct, frozen=True):
    """What was to be reached: `value` at least `least`, or at most `most`."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it was."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        wanted = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return f"{'reached' if self.reached else 'MISSED '}  {self.name}: {self.value:,.4g} ({wanted})"


class RateProbeSample(msgspec.Struct, frozen=True):
    """One look at the rates: `at` seconds after the start, how old their oldest source was, and the answer's tag."""

    at: float
    age_ms: int
    tag: str


class PeerBench(msgspec.Struct, frozen=True):
    """A run of a part of `make bench` that measures peers in turn."""

    machine: MachineInfo
    rows: list[PeerResult]
    targets: list[Target]


class FigureBench(msgspec.Struct, frozen=True):
    """A run of a part of `make bench` that is no row of peers: its figures by name. `aims` are wished for only."""

    machine: MachineInfo
    figures: dict[str, float]
    targets: list[Target]
    aims: list[Target] = []


class FanoutResult(msgspec.Struct, frozen=True):
    """One server and so many sockets, the median of the rounds.

    `cpu_us`: of the server, per message that a socket read; `kb`: that it holds per connection; `delivered`: the share
    of the messages due that were read while it was measured.
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
    """A run of the part of `make bench` that counts how late live messages are read. `aims` are wished for only."""

    machine: MachineInfo
    rows: list[FanoutResult]
    targets: list[Target]
    aims: list[Target]


class RequestKind(msgspec.Struct, frozen=True):
    """One kind of question under load. `percentiles`: of which share (0.99) the answers took at most that many ms."""

    name: str
    requests: int
    failures: int
    rate: float
    percentiles: dict[str, float]


class LoadSecond(msgspec.Struct, frozen=True):
    """The load as of one second."""

    at: float
    rate: float
    failures: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class LoadResult(msgspec.Struct, frozen=True):
    """A run of `make load`."""

    machine: MachineInfo
    request_kinds: list[RequestKind]
    seconds: list[LoadSecond]
    samples: list[RateProbeSample]
    targets: list[Target]


def machine_info() -> MachineInfo:
    """This one, now."""
    names = ("fastapi", "uvicorn", "uvloop", "httptools", "locust")
    versions = {"Python": platform.python_version(), **{name: version(name) for name in names}}
    nginx = subprocess.run([find_program("nginx"), "-v"], check=True, capture_output=True, text=True).stderr  # noqa: S603
    versions["nginx"] = nginx.strip().rpartition("/")[2]
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return MachineInfo(date, os.cpu_count() or 0, f"{platform.system()} {platform.machine()}", versions)


def save_and_exit_code(name: str, found: PeerBench | FigureBench | StreamBench) -> int:
    """Keep what a part of `make bench` found, for `python -m loadtest.report`; answers the part's exit code."""
    print(f"written to {save_result(name, found)}")
    return 0 if all(target.reached for target in found.targets) else 1


def save_result(name: str, found: PeerBench | FigureBench | StreamBench | LoadResult) -> Path:
    """Keep it; answers where."""
    RESULTS_FOLDER.mkdir(parents=True, exist_ok=True)
    path = RESULTS_FOLDER / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    return path
