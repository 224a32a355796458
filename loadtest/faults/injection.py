"""Injects scheduled faults into running processes and servers."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from loadtest.faults.kinds import KINDS, FaultTargets
from loadtest.faults.schedule import ScheduledFault
from tests.servers import Server

POLL_SECONDS = 0.2
RECOVERY_SECONDS = 180  # in which a target must be ready again


class InjectedFault(NamedTuple):
    """A fault that is over. It counts until its target was ready again; times are seconds of the wall clock."""

    fault: ScheduledFault
    since: float
    until: float


def inject(targets: FaultTargets, faults: Sequence[ScheduledFault]) -> list[InjectedFault]:
    """Inject all faults at their times. Faults of inject_one target wait for each other, others overlap."""
    began, injected, errors = time.time(), list[InjectedFault](), list[Exception]()
    locks = {fault.target: threading.Lock() for fault in faults}

    def inject_one(fault: ScheduledFault) -> None:
        try:
            time.sleep(max(0.0, began + fault.at - time.time()))
            with locks[fault.target]:
                since = time.time()
                print(f"{since - began:6.1f} s  {fault.target}: {fault.kind}", file=sys.stderr, flush=True)
                with KINDS[fault.target][fault.kind].block(targets, fault.target):
                    time.sleep(fault.seconds)
                if server := targets.supervisor.servers.get(fault.target):
                    _wait_until_ready(server)
                injected.append(InjectedFault(fault, since, time.time()))
        except Exception as error:  # noqa: BLE001  reported by the main thread
            errors.append(error)

    threads = [threading.Thread(target=inject_one, args=[fault], daemon=True) for fault in faults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sorted(injected, key=lambda each: each.since)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not (server.process and server.ready()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} is not ready again:\n{server.log()}")
        time.sleep(POLL_SECONDS)
