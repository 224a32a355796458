"""Clients of streams that other people wrote, unchanged: a line that breaks costs none of them an event."""

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.api import Replica, replica
from tests.conftest import installed
from tests.servers import program
from tests.service.test_streams import BTC, candle, rate
from tests.strangers import packages
from tests.strangers.client_runner import printed
from tests.strangers.clients import CLIENTS, Client
from tests.strangers.deployment import Place

STREAMS = [client for client in CLIENTS if client.streams and client.packages]


async def tell(running: Replica) -> None:
    """A quote and a trade, again and again."""
    for price in itertools.count(97_000):
        await running.tell(rate(BTC, str(price)), candle(0, price))
        await asyncio.sleep(0.02)


async def folder(client: Client, empty: Path) -> Path:
    """Where its packages are; those of Python are installed with the others that tests need."""
    if client.language == "python":
        return empty
    installed(lambda: program("npm"))
    return await packages.installed(client)


async def served(client: Client, at: Path, place: Place) -> None:
    """Let it follow, and judge what it says."""
    await client.judge(place, await printed(client, at, place, breaks=1))


@pytest.mark.parametrize("kind", ["python", "node", "page"])
async def test_what_was_told_while_the_line_was_broken_comes_once(kind: str, tmp_path: Path) -> None:
    clients = [client for client in STREAMS if client.language == kind]
    folders = [await folder(client, tmp_path) for client in clients]
    async with replica() as running:
        place = Place(f"http://{running.address}", "", "", Path())
        telling = asyncio.create_task(tell(running))
        try:
            async with asyncio.TaskGroup() as group:
                for client, at in zip(clients, folders, strict=True):
                    group.create_task(served(client, at, place))
        finally:
            telling.cancel()
