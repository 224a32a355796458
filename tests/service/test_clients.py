"""Stream clients of other projects, unchanged: none misses an event when its connection breaks."""

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.api import ServedReplica, serve_replica
from tests.conftest import require_installed
from tests.servers import find_program
from tests.strangers import packages
from tests.strangers.client_runner import run_client
from tests.strangers.clients import CLIENTS, StrangerClient
from tests.strangers.deployment import Deployment
from tests.stream_messages import BTC, candle, rate

STREAM_CLIENTS = [client for client in CLIENTS if client.follows_stream and client.packages]


async def publish_changes(running: ServedReplica) -> None:
    """Publish a rate and a forming candle again and again."""
    for price in itertools.count(97_000):
        await running.publish(rate(BTC, str(price)), candle(0, price))
        await asyncio.sleep(0.02)


async def package_folder(client: StrangerClient, empty: Path) -> Path:
    """Return where a client's packages are. Those of Python are in the development set."""
    if client.language == "python":
        return empty
    require_installed(lambda: find_program("npm"))
    return await packages.install_packages(client)


async def run_and_check(client: StrangerClient, at: Path, place: Deployment) -> None:
    """Run a client and check its output."""
    await client.check_output(place, await run_client(client, at, place, breaks=1))


@pytest.mark.parametrize("kind", ["python", "node", "page"])
async def test_events_around_a_broken_connection_arrive_once(kind: str, tmp_path: Path) -> None:
    clients = [client for client in STREAM_CLIENTS if client.language == kind]
    folders = [await package_folder(client, tmp_path) for client in clients]
    async with serve_replica() as running:
        place = Deployment(f"http://{running.address}", "", "", Path())
        publishing = asyncio.create_task(publish_changes(running))
        try:
            async with asyncio.TaskGroup() as group:
                for client, at in zip(clients, folders, strict=True):
                    group.create_task(run_and_check(client, at, place))
        finally:
            publishing.cancel()
