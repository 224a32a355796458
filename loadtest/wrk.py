"""Measurements by wrk, a load generator in C that takes little CPU from the measured server."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.servers import find_program

SCRIPT = Path(__file__).with_name("done.lua")


class WrkResult(msgspec.Struct, frozen=True):
    """The result of wrk. `statuses` counts responses of 400 and more, `sockets` failed connections."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: int
    sockets: int

    @property
    def rate(self) -> float:
        """The requests a second."""
        return self.requests / self.seconds


def measure(url: str, seconds: int, connections: int, *headers: str) -> WrkResult:
    """Request a URL of the loopback as fast as it responds. Raises NotInstalled, and ValueError for other hosts."""
    if urlsplit(url).hostname != "127.0.0.1":
        raise ValueError(f"{url}: load goes to 127.0.0.1 only")
    header_args = [word for header in headers for word in ("--header", header)]
    command = [find_program("wrk"), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "5s", "--script", str(SCRIPT), *header_args, url]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)  # noqa: S603
    return parse_output(ran.stdout)


def parse_output(output: str) -> WrkResult:
    """Parse the last line of wrk, which done.lua writes. Raises msgspec.MsgspecError when it is something else."""
    return msgspec.json.decode(output.strip().splitlines()[-1], type=WrkResult)
