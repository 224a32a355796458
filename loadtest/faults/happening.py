"""Faults as they happen to the running processes, and a supervisor that starts again what has ended."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import httpx

from loadtest.faults.plan import Fault
from tests.servers import Server
from tests.system import System

LOOK = 0.2  # seconds
BACK = 180  # seconds in which whatever was hit answers again


class Happened(NamedTuple):
    """A fault that is over, by the clock in seconds: from its beginning until its target answered again."""

    fault: Fault
    since: float
    until: float


class Supervisor(threading.Thread):
    """Starts again what has ended, at once, as an operator's would. A `with` block marks its time."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        super().__init__(daemon=True)
        self.servers, self.starts = servers, 0
        self.locks = {name: threading.Lock() for name in servers}  # whoever holds one is at work on that server
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until the end. What is being stopped just now is left alone."""
        while not self._over.wait(LOOK):
            for name, server in self.servers.items():
                if self.locks[name].acquire(blocking=False):
                    try:
                        self._look(server)
                    finally:
                        self.locks[name].release()

    def _look(self, server: Server) -> None:
        if server.process is None or server.process.poll() is not None:
            server.launch()
            self.starts += 1


def happen(system: System, supervisor: Supervisor, faults: Sequence[Fault]) -> list[Happened]:
    """Let them all happen, each at its moment. Those of one target wait for each other, others overlap."""
    began, over, failed = time.time(), list[Happened](), list[Exception]()
    turns = {fault.target: threading.Lock() for fault in faults}

    def one(fault: Fault) -> None:
        try:
            time.sleep(max(0.0, began + fault.at - time.time()))
            with turns[fault.target]:
                since = time.time()
                print(f"{since - began:6.1f} s  {fault.target}: {fault.kind}", file=sys.stderr)
                _wire(system, fault) if fault.on_wire else _process(supervisor, fault)
                over.append(Happened(fault, since, time.time()))
        except Exception as error:  # noqa: BLE001  told by the main thread
            failed.append(error)

    threads = [threading.Thread(target=one, args=[fault], daemon=True) for fault in faults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sorted(over, key=lambda each: each.since)


def _wire(system: System, fault: Fault) -> None:
    asked: dict[str, object] = {"exchange": fault.target, "fault": fault.kind}
    if fault.seconds:
        asked["seconds"] = fault.seconds
    httpx.post(f"{system.simulator}/faults", json=asked, timeout=30).raise_for_status()
    time.sleep(fault.seconds)


def _process(supervisor: Supervisor, fault: Fault) -> None:
    server = supervisor.servers[fault.target]
    with supervisor.locks[fault.target]:
        match fault.kind:
            case "SIGKILL":
                server.kill()
            case "SIGSTOP":
                server.pause()
                time.sleep(fault.seconds)
                server.resume()
            case "restart":
                server.stop()
    _until_back(server)


def _until_back(server: Server) -> None:
    deadline = time.monotonic() + BACK
    while not (server.process and server.ready()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} does not come back:\n{server.log()}")
        time.sleep(LOOK)
