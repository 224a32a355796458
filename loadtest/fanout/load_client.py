"""Many WebSocket clients in one program in C, which takes a tenth of the CPU of the measured server."""

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from loadtest.fanout import programs
from loadtest.fanout.cores import CLIENT_CORE, pin_command


class ReceivedStats(msgspec.Struct, frozen=True):
    """What the clients received. `size`: the mean of a message in bytes. `lost`: sockets that the server closed."""

    messages: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    size: float
    cpu_seconds: float
    lost: int


class LoadClients(NamedTuple):
    """Clients of one path. Each socket sends one of the `requests`, in turn; the last `stalled` sockets never read."""

    sockets: int
    port: int
    path: str = "/"
    marker: str = '"close":'
    requests: Sequence[str] = ()
    stalled: int = 0


def run_load_client(
    clients: LoadClients, seconds: float, connected: Callable[[], None], ready: Callable[[], None]
) -> ReceivedStats:
    """Run the clients. Return what they received in these seconds.

    Calls `connected` once all sockets are connected. Calls `ready` once all have received a message, just before the
    measurement. Raises RuntimeError when a socket receives nothing within a minute.
    """
    args = (clients.port, clients.path, clients.sockets, clients.stalled, seconds, clients.marker, *clients.requests)
    command = pin_command(CLIENT_CORE, str(programs.compile_program("load_client")), *map(str, args))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin
        assert process.stdout
        for callback, expected in ((connected, "connected"), (ready, "ready")):
            if process.stdout.readline().strip() != expected:
                raise RuntimeError(f"{clients.sockets} sockets on port {clients.port} are not {expected}")
            callback()
        result, _ = process.communicate("now\n")
        return msgspec.json.decode(result, type=ReceivedStats)
