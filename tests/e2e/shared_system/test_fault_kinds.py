"""The faults of servers that `make faults` injects: the servers accept them, and Kurs survives them."""

import httpx
import pytest

from loadtest.faults.kinds import KINDS, FaultTargets
from loadtest.faults.supervisor import Supervisor
from tests import servers
from tests.system import System
from tests.waiting import wait_until

FAULTS_BY_TARGET = {
    "postgres": ("read-only", "candles locked"),
    "redis": ("full", "flushed"),
    "rabbit": ("memory alarm", "disk alarm", "queue purged", "queue deleted"),
}


@pytest.mark.parametrize(
    ("target", "kind"), [(target, kind) for target, kinds in FAULTS_BY_TARGET.items() for kind in kinds]
)
def test_server_fault_begins_and_ends_and_rates_return(
    shared: System, private: servers.PrivateServers, target: str, kind: str
) -> None:
    targets = FaultTargets(shared, private.postgres, private.rabbit, Supervisor({}), {}, {})
    with KINDS[target][kind].block(targets, target):
        assert httpx.get(f"{shared.url}/livez", timeout=20).status_code == 200
    wait_until(lambda: httpx.get(f"{shared.url}/v1/courses", timeout=20).status_code == 200, "rates")
