"""A container's health check: whether /readyz responds 200. A process that does not respond at all is killed.

Docker restarts a container when its process ends, never because it is unhealthy. A process that is stopped, or whose
interpreter hangs, cannot end itself. This file runs alone (`python -IS`), because an import of Kurs would take longer
than the rest of the check.
"""

import os
import signal
import socket
import sys

FIRST_TIMEOUT_SECONDS, LAST_TIMEOUT_SECONDS = 4, 16  # the process is killed after the last


def main() -> int:
    """Return the exit code: 0 healthy, 1 not."""
    for seconds in (FIRST_TIMEOUT_SECONDS, LAST_TIMEOUT_SECONDS):
        try:
            return int(b" 200 " not in fetch_readyz(seconds))
        except TimeoutError:
            continue
        except OSError:
            return 1  # it does not listen yet, or no longer
    print(f"no response within {FIRST_TIMEOUT_SECONDS + LAST_TIMEOUT_SECONDS} s: the process is killed")  # noqa: T201
    for pid in container_processes():
        os.kill(pid, signal.SIGKILL)
    return 1


def fetch_readyz(seconds: float) -> bytes:
    """Return the first bytes of the response of /readyz. Raises OSError."""
    with socket.create_connection(("127.0.0.1", int(os.environ["KURS_PORT"])), seconds) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return connection.recv(64)


def container_processes() -> list[int]:
    """Return the processes that the container's init process has started: Kurs, without this check."""
    with open("/proc/1/task/1/children") as listed:  # noqa: PTH123  pathlib would take as long as the check
        return [int(pid) for pid in listed.read().split()]


if __name__ == "__main__":
    sys.exit(main())
