"""Starts one server and its clients, and measures them."""

import os
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtest.fanout import load_client
from loadtest.fanout.cores import SERVER_CORE, ProcessUsage, pin_command, process_usage
from loadtest.fanout.load_client import LoadClients, ReceivedStats
from tests.servers import Server, free_port, is_listening

ROOT = Path(__file__).parents[2]


class FanoutScenario(NamedTuple):
    """How often a message is sent to how many sockets, and for how long."""

    sockets: int
    per_second: float
    seconds: float
    stalled: int = 0


class FanoutPeer(NamedTuple):
    """A server. `command` takes a port and the messages a second, which the server sends from SIGUSR2 on."""

    name: str
    command: Callable[[int, float], Sequence[str]]
    path: str = "/"
    requests: Sequence[str] = ()
    env: Mapping[str, str] = {}


class FanoutRun(msgspec.Struct, frozen=True):
    """What the clients received, and the usage of the server."""

    received: ReceivedStats
    cpu_us: float  # per message that a socket read
    kb: float  # resident, per connection
    grown_kb: float  # resident, from the first message to the end

    @property
    def server_load(self) -> float:
        """The share of its core that the server used."""
        return self.cpu_us * self.received.messages / self.received.seconds / 1e6


def run_scenario(peer: FanoutPeer, scenario: FanoutScenario) -> FanoutRun:
    """Measure a new server. Raises RuntimeError when a client receives nothing within a minute."""
    port, usages = free_port(), list[ProcessUsage]()
    with tempfile.TemporaryDirectory(prefix="kurs-") as folder:
        command = pin_command(SERVER_CORE, *peer.command(port, scenario.per_second))
        env = {"PYTHONPATH": str(ROOT), **peer.env}
        server = Server(peer.name, "", Path(folder), command, ready=lambda: is_listening(port), env=env)
        server.start()
        try:
            assert server.process
            pid = server.process.pid
            usages.append(process_usage(pid))
            clients = LoadClients(scenario.sockets, port, peer.path, requests=peer.requests, stalled=scenario.stalled)
            received = load_client.run_load_client(
                clients,
                scenario.seconds,
                connected=lambda: os.kill(pid, signal.SIGUSR2),
                ready=lambda: usages.append(process_usage(pid)),
            )
            usages.append(process_usage(pid))
        finally:
            server.stop()
    return _fanout_run(received, scenario, usages)


def _fanout_run(received: ReceivedStats, scenario: FanoutScenario, usages: Sequence[ProcessUsage]) -> FanoutRun:
    before, ready, after = usages
    return FanoutRun(
        received,
        cpu_us=(after.cpu_seconds - ready.cpu_seconds) / max(received.messages, 1) * 1e6,
        kb=(ready.resident_bytes - before.resident_bytes) / scenario.sockets / 1000,
        grown_kb=(after.resident_bytes - ready.resident_bytes) / 1000,
    )
