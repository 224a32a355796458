"""A server process: start, stop, kill, pause."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_SECONDS = 60  # for one server to start or stop
PROGRAM_PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/lib/rabbitmq/bin", "/usr/sbin", "/sbin", "/usr/local/sbin"]
    + ["/opt/homebrew/bin", "/opt/homebrew/sbin"]
    + [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    + [str(path) for root in ("/opt/homebrew", "/usr/local") for path in Path(root).glob("opt/postgresql@*/bin")]
)


class NotInstalled(Exception):
    """A server's program is not installed."""


def find_program(name: str) -> str:
    """Return the path of a program. Raises NotInstalled."""
    # the scripts in Debian's /usr/sbin require the server's own user; those in /usr/lib do not
    found = shutil.which(name, path="/usr/lib/rabbitmq/bin") or shutil.which(name, path=PROGRAM_PATH)
    if not found:
        raise NotInstalled(f"{name} is not installed: run tests/install-servers")
    return found


def free_port() -> int:
    """Return an unused port below those of outgoing connections, so that it stays free while its server is down."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)  # not the seed that tests share
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Server:
    """A server. It keeps its port and its data when it is stopped or killed and started again."""

    name: str
    url: str
    folder: Path
    command: Sequence[str]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Start, and wait until the server is ready."""
        self.launch()
        return self.wait_until_ready()

    def run(self) -> None:
        """Run the process to its end. Raises RuntimeError when it fails."""
        self.launch()
        if self.process and (code := self.process.wait(START_TIMEOUT_SECONDS)):
            raise RuntimeError(f"{self.name} ended with {code}:\n{self.log()}")
        self.process = None

    def launch(self) -> None:
        """Start the process without waiting."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  our own commands
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.env},
                user=self.user,
                start_new_session=True,
            )

    def wait_until_ready(self) -> "Server":
        """Wait until the server is ready. Raises RuntimeError with its log when it ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self.ready():
            if not self.process or self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{self.log()}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End the process by its signal, or by SIGKILL when it does not end in time."""
        if self.process:
            self.resume()
            self.process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(START_TIMEOUT_SECONDS)
            self.kill()

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        if self.process:
            self._signal(signal.SIGKILL)
            self.process.wait(START_TIMEOUT_SECONDS)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let the process hang: it holds its connections and does not respond."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process continue."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the end of the log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _signal(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            for pid in process_tree(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def process_tree(pid: int) -> list[int]:
    """Return a process and all processes that it has started, in any group."""
    table = subprocess.run([find_program("ps"), "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S603
    rows = [tuple(map(int, line.split())) for line in table.stdout.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in rows if its_parent == parent]
    return found


def is_listening(port: int, request: bytes = b"", response: bytes = b"") -> bool:
    """Return whether a server at that port accepts a connection, and responds to `request` with `response`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(request)
            return not response or connection.recv(len(response)) == response
    except OSError:
        return False
