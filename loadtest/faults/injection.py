"""Faults as they happen to what is running."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from loadtest.faults.kinds import KINDS, FaultTargets
from loadtest.faults.schedule import ScheduledFault
from tests.servers import Server

POLL_SECONDS = 0.2
RECOVERY_SECONDS = 180  # in which whatever was hit answers again


class InjectedFault(NamedTuple):
    """A fault that is over, by the clock in seconds: from its beginning until its target answered again."""

    fault: ScheduledFault
    since: float
    until: float


def inject(scene: FaultTargets, faults: Sequence[ScheduledFault]) -> list[InjectedFault]:
    """Let them all happen, each at its moment. Those of one target wait for each other, others overlap."""
    began, over, failed = time.time(), list[InjectedFault](), list[Exception]()
    turns = {fault.target: threading.Lock() for fault in faults}

    def one(fault: ScheduledFault) -> None:
        try:
            time.sleep(max(0.0, began + fault.at - time.time()))
            with turns[fault.target]:
                since = time.time()
                print(f"{since - began:6.1f} s  {fault.target}: {fault.kind}", file=sys.stderr, flush=True)
                with KINDS[fault.target][fault.kind].block(scene, fault.target):
                    time.sleep(fault.seconds)
                if server := scene.supervisor.servers.get(fault.target):
                    _wait_until_ready(server)
                over.append(InjectedFault(fault, since, time.time()))
        except Exception as error:  # noqa: BLE001  reported by the main thread
            failed.append(error)

    threads = [threading.Thread(target=one, args=[fault], daemon=True) for fault in faults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sorted(over, key=lambda each: each.since)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not (server.process and server.ready()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} does not come back:\n{server.log()}")
        time.sleep(POLL_SECONDS)
