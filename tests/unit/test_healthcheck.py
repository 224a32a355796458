"""The health check of containers: its exit codes, and the end of a process that does not respond."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "services/healthcheck.py"
# Like a container: process 1, its stopped child, and the health check.
CONTAINER = """
import os, signal, subprocess, sys, time
hung = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
os.kill(hung.pid, signal.SIGSTOP)
began = time.monotonic()
check = subprocess.Popen(sys.argv[1:])
while check.poll() is None and hung.poll() is None:
    time.sleep(0.1)
hung.kill() if (ended := hung.poll()) is None else check.kill()
print(ended, round(time.monotonic() - began))
"""


@contextmanager
def serve_fixed_answer(answer: bytes) -> Iterator[str]:
    """Yield a port that sends `answer` on every connection, or with b"" nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        yield str(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def run_check(port: str) -> int:
    env = {**os.environ, "KURS_PORT": port}
    return subprocess.run([sys.executable, "-IS", str(CHECK)], env=env, timeout=60, check=False).returncode  # noqa: S603


def test_process_is_healthy_only_if_readyz_responds_with_200() -> None:
    with serve_fixed_answer(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert run_check(port) == 0
    assert run_check(port) == 1
    with serve_fixed_answer(b"HTTP/1.1 503 Service Unavailable\r\n\r\n") as port:
        assert run_check(port) == 1


def test_healthcheck_ends_a_process_that_does_not_respond() -> None:
    unshare = shutil.which("unshare")
    space = [unshare or "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if not unshare or subprocess.run([*space, "true"], capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("this machine allows no process namespace")
    with serve_fixed_answer(b"") as port:
        command = [*space, sys.executable, "-c", CONTAINER, sys.executable, "-IS", str(CHECK)]
        env = {**os.environ, "KURS_PORT": port}
        out = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=True).stdout  # noqa: S603
    ended, seconds = out.split()[-2:]
    assert int(ended) == -signal.SIGKILL
    assert 15 <= int(seconds) <= 40
