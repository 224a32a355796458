"""Measures the way from an exchange's frame to a client, with each service as its own process."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from loadtest.fanout import load_client
from loadtest.fanout.fanout_peers import PATH, UNLIMITED_CONNECTIONS
from loadtest.fanout.load_client import LoadClients, ReceivedStats
from loadtest.fanout.runner import ROOT
from tests.servers import PrivateServers, Server, free_port, is_listening
from tests.system import kurs_process

SYMBOLS, SOCKETS = 100, 1_000
MESSAGES_PER_SECOND = 1_000  # frames of all symbols together
MEASURE_SECONDS = 10
BASES = [f"S{number}" for number in range(SYMBOLS)]


class EndToEndPath(NamedTuple):
    """What the exchange sends, which services process it, and what the clients request and receive."""

    kind: str
    services: tuple[str, ...]
    requests: tuple[str, ...]
    marker: str


RATES = EndToEndPath(
    "bookTicker",
    ("pricer",),
    tuple(f'{{"action":"subscribe","channels":["{base.lower()}_usdt"],"timer":0}}' for base in BASES),
    '"value":',
)
CANDLES = EndToEndPath(
    "aggTrade",
    ("pricer", "writer"),
    tuple(f'{{"action":"subscribe","symbol":"{base}USDT","timeframe":"1m"}}' for base in BASES),
    '"close":',
)


def measure_end_to_end(private: PrivateServers, path: EndToEndPath) -> ReceivedStats:
    """Measure what a thousand clients receive. Raises RuntimeError when nothing arrives."""
    folder = private.folder / f"path-{path.kind}"
    folder.mkdir()
    with run_services(private, folder, path) as (stub, api):
        process = stub.process
        assert process
        clients = LoadClients(SOCKETS, int(api.url.rpartition(":")[2]), PATH, path.marker, path.requests)
        start_sending = partial(os.kill, process.pid, signal.SIGUSR2)
        return load_client.run_load_client(clients, MEASURE_SECONDS, connected=start_sending, ready=lambda: None)


@contextmanager
def run_services(private: PrivateServers, folder: Path, path: EndToEndPath) -> Iterator[tuple[Server, Server]]:
    """Run the exchange stub and all services. Yield the stub and the API."""
    port = free_port()
    command = [sys.executable, "-m", "loadtest.fanout.exchange_stub", str(port), path.kind, str(MESSAGES_PER_SECOND)]
    (folder / "stub").mkdir()
    ready = lambda: is_listening(port)  # noqa: E731
    stub = Server("stub", "", folder / "stub", command, ready=ready, env={"PYTHONPATH": str(ROOT)})
    pairs = ",".join(f"{base}-USDT" for base in BASES)
    env = {
        "DATABASE_URL": private.postgres.create_database(),
        "REDIS_URL": private.redis.url,
        "RABBITMQ_URL": private.rabbit.url,
    }
    env |= {
        "KURS_SIMULATOR_URL": f"http://127.0.0.1:{port}/simulator",
        "KURS_EXCHANGES": "binance",
        **UNLIMITED_CONNECTIONS,
    }
    env |= {"KURS_DIRECTIONS": pairs, "KURS_SYMBOLS": pairs, "KURS_HISTORY_BARS": "0", "KURS_CONFLATE_MS": "0"}
    kurs_process(folder, "migrate", **env).run()
    api = kurs_process(folder, "api", **env)
    services = [
        kurs_process(folder, *words, **env)
        for words in (*((name,) for name in path.services), ("collector", "binance"))
    ]
    with ExitStack() as stack:
        for process in (stub, api, *services):
            stack.callback(process.stop)
            process.launch()
        for process in (stub, api, *services):
            process.wait_until_ready()
        yield stub, api
