"""A container's health check: whether /readyz says 200. What answers nothing at all is ended, to be started anew.

Docker starts a container again when its process ends, never because it is unhealthy. A process that was stopped, or
whose interpreter hangs, cannot end itself. This file is run alone (`python -IS`), since an import of Kurs would cost
each check more than all the rest.
"""

import os
import signal
import socket
import sys

FIRST_TIMEOUT_SECONDS, LAST_TIMEOUT_SECONDS = (
    4,
    16,
)  # seconds that an answer is waited for; the second time it is the last chance


def main() -> int:
    """0: healthy; 1: not."""
    for seconds in (FIRST_TIMEOUT_SECONDS, LAST_TIMEOUT_SECONDS):
        try:
            return int(b" 200 " not in fetch_readyz(seconds))
        except TimeoutError:
            continue
        except OSError:
            return 1  # it does not listen yet, or any more
    print(f"nothing was answered within {FIRST_TIMEOUT_SECONDS + LAST_TIMEOUT_SECONDS} s: the process is ended")  # noqa: T201
    for pid in container_processes():
        os.kill(pid, signal.SIGKILL)
    return 1


def fetch_readyz(seconds: float) -> bytes:
    """The beginning of what /readyz answers. Raises OSError."""
    with socket.create_connection(("127.0.0.1", int(os.environ["KURS_PORT"])), seconds) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return connection.recv(64)


def container_processes() -> list[int]:
    """What the container's first process, a bare init, has started: Kurs, and not this check."""
    with open("/proc/1/task/1/children") as listed:  # noqa: PTH123  pathlib would take as long as the check
        return [int(pid) for pid in listed.read().split()]


if __name__ == "__main__":
    sys.exit(main())
