"""What every journal promises, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from services.adapters.memory import MemoryJournal
from services.adapters.redis import RedisJournal
from services.core.errors import Unavailable
from services.core.journal import OTHERS, Entry
from services.ports import Journal
from tests import servers

NOW = 1_795_392_000_000_000  # a microsecond


@pytest.fixture(params=["memory", "redis"])
async def journal(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal()
        return
    server: servers.Server = request.getfixturevalue("redis")
    journal = RedisJournal(server.url)
    yield journal
    await journal.close()


def written(count: int, log: str = "", first: int = NOW) -> list[Entry]:
    """A log that is whole."""
    log = log or f"log-{uuid4().hex}"
    return [
        Entry(log, first + number, first + number - 1 if number else 0, f"k{number}", f'{{"é":{number}}}')
        for number in range(count)
    ]


async def test_who_knows_a_number_reads_on_from_there(journal: Journal) -> None:
    entries = written(9)
    log = entries[0].log
    await journal.append(*entries)
    for place, entry in enumerate(entries):
        assert await journal.after(log, entry.number, 100) == entries[place + 1 :]
    assert await journal.after(log, entries[2].number, 3) == entries[3:6]
    assert await journal.after(log, 0, 4) == entries[:4]
    assert await journal.newest(log, "none") == [entries[-1], None]


async def test_a_number_that_is_not_there_is_not_read_on_from(journal: Journal) -> None:
    entries = written(5)
    log = entries[0].log
    await journal.append(*entries)
    assert await journal.after(log, NOW - 1, 9) is None
    assert await journal.after(log, NOW + 9, 9) is None
    assert await journal.after(f"none-{log}", NOW, 9) is None
    assert await journal.after(f"none-{log}", 0, 9) == []


async def test_the_same_and_what_is_older_changes_nothing(journal: Journal) -> None:
    entries = written(6)
    log = entries[0].log
    await asyncio.gather(*(journal.append(*entries) for _ in range(4)))
    await journal.append(Entry(log, NOW - 5, 0, "late", "{}"))
    assert await journal.after(log, 0, 100) == entries


async def test_a_hole_is_not_passed_over(journal: Journal) -> None:
    entries = written(6)
    log = entries[0].log
    await journal.append(*entries[:2], *entries[3:])
    assert await journal.after(log, entries[0].number, 9) is None
    assert await journal.after(log, entries[3].number, 9) == entries[4:]
    assert await journal.after(log, 0, 9) == entries[3:]


async def test_past_a_writer_that_knew_no_predecessor_nobody_reads_on(journal: Journal) -> None:
    """It may have told something in between that is not here."""
    entries = written(2)
    log = entries[0].log
    later = written(2, log, NOW + 10_000)
    await journal.append(*entries, *later)
    assert await journal.after(log, entries[0].number, 9) is None
    assert await journal.after(log, later[0].number, 9) == later[1:]
    assert await journal.after(log, 0, 9) == later


async def test_the_oldest_give_way(journal: Journal) -> None:
    entries = written(OTHERS + 7)
    log = entries[0].log
    await journal.append(*entries)
    assert await journal.after(log, entries[6].number, 9) is None
    assert await journal.after(log, entries[7].number, OTHERS) == entries[8:]


async def test_one_that_is_away_is_said_to_be() -> None:
    journal = RedisJournal(f"redis://:a-secret@127.0.0.1:{servers.free_port()}/0")
    for question in (journal.append(*written(1)), journal.after("x", 0, 1), journal.newest("x"), journal.ping()):
        with pytest.raises(Unavailable, match="Redis") as refused:
            await asyncio.wait_for(question, 5)
        assert "a-secret" not in str(refused.value)
    await journal.close()
