"""From an exchange's frame to a client, each service a process of its own over RabbitMQ, Redis and PostgreSQL."""

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
    """What the exchange sends, which services it passes, and where it is read."""

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


def measure_end_to_end(here: PrivateServers, journey: EndToEndPath) -> ReceivedStats:
    """What a thousand clients receive. Raises RuntimeError when nothing arrives."""
    room = here.folder / f"journey-{journey.kind}"
    room.mkdir()
    with run_services(here, room, journey) as (source, api):
        process = source.process
        assert process
        seats = LoadClients(SOCKETS, int(api.url.rpartition(":")[2]), PATH, journey.marker, journey.requests)
        begin = partial(os.kill, process.pid, signal.SIGUSR2)
        return load_client.run_load_client(seats, MEASURE_SECONDS, seated=begin, ready=lambda: None)


@contextmanager
def run_services(here: PrivateServers, folder: Path, journey: EndToEndPath) -> Iterator[tuple[Server, Server]]:
    """The exchange, and Kurs' API before which every other service runs."""
    port = free_port()
    line = [sys.executable, "-m", "loadtest.fanout.exchange_stub", str(port), journey.kind, str(MESSAGES_PER_SECOND)]
    (folder / "source").mkdir()
    ready = lambda: is_listening(port)  # noqa: E731
    source = Server("source", "", folder / "source", line, ready=ready, env={"PYTHONPATH": str(ROOT)})
    pairs = ",".join(f"{base}-USDT" for base in BASES)
    env = {
        "DATABASE_URL": here.postgres.create_database(),
        "REDIS_URL": here.redis.url,
        "RABBITMQ_URL": here.rabbit.url,
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
        for words in (*((name,) for name in journey.services), ("collector", "binance"))
    ]
    with ExitStack() as stack:
        for process in (source, api, *services):
            stack.callback(process.stop)
            process.launch()
        for process in (source, api, *services):
            process.wait_until_ready()
        yield source, api
