"""One measurement by wrk, a load generator in C that costs the measured server little."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.servers import find_program

SCRIPT = Path(__file__).with_name("done.lua")


class WrkResult(msgspec.Struct, frozen=True):
    """What wrk found. `statuses` counts answers of 400 and more, `sockets` connections that failed."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: int
    sockets: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def measure(url: str, seconds: int, connections: int, *headers: str) -> WrkResult:
    """Request a URL of the loopback as fast as it responds. Raises Missing without wrk, ValueError for other hosts."""
    if urlsplit(url).hostname != "127.0.0.1":
        raise ValueError(f"{url}: load goes to 127.0.0.1 only")
    named = [word for header in headers for word in ("--header", header)]
    command = [find_program("wrk"), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "5s", "--script", str(SCRIPT), *named, url]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)  # noqa: S603
    return parse_output(ran.stdout)


def parse_output(output: str) -> WrkResult:
    """The last line that wrk wrote. Raises msgspec.MsgspecError when it is not ours."""
    return msgspec.json.decode(output.strip().splitlines()[-1], type=WrkResult)
