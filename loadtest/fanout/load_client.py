"""Many WebSocket clients in one program in C, which costs the machine a tenth of what it measures."""

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from loadtest.fanout import programs
from loadtest.fanout.cores import CLIENT_CORE, pin_command


class ReceivedStats(msgspec.Struct, frozen=True):
    """What was read within so many seconds. `lost` sockets were closed by the server; `size` is a message's mean."""

    messages: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    size: float
    cpu_seconds: float
    lost: int


class LoadClients(NamedTuple):
    """Clients of one address. The sockets send the `requests` in turn; the last `stalled` of them never read."""

    sockets: int
    port: int
    path: str = "/"
    marker: str = '"close":'
    requests: Sequence[str] = ()
    stalled: int = 0


def run_load_client(
    seats: LoadClients, seconds: float, seated: Callable[[], None], ready: Callable[[], None]
) -> ReceivedStats:
    """What the clients receive. Raises RuntimeError when not every socket receives something within a minute.

    Calls `seated` once all are connected, and `ready`, just before it is measured, once all have received something.
    """
    words = (seats.port, seats.path, seats.sockets, seats.stalled, seconds, seats.marker, *seats.requests)
    command = pin_command(CLIENT_CORE, str(programs.compile_program("load_client")), *map(str, words))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin
        assert process.stdout
        for told, expected in ((seated, "seated"), (ready, "ready")):
            if process.stdout.readline().strip() != expected:
                raise RuntimeError(f"{seats.sockets} sockets on port {seats.port} are not {expected}")
            told()
        found, _ = process.communicate("now\n")
        return msgspec.json.decode(found, type=ReceivedStats)
