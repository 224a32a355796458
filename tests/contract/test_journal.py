"""What every journal promises, whatever it is made of."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from operator import itemgetter
from uuid import uuid4

import pytest

from services.adapters.memory import MemoryJournal
from services.adapters.redis import RedisJournal
from services.core.errors import Unavailable
from services.core.journal import DEFAULT_MAX_ENTRIES, JournalEntry
from services.ports import Journal
from tests import servers

NOW = 1_795_392_000_000_000  # a microsecond
JOURNAL_MEGABYTES = 8


@pytest.fixture(params=["memory", "redis"])
async def journal(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal()
        return
    server: servers.Server = request.getfixturevalue("redis")
    journal = RedisJournal(server.url)
    yield journal
    await journal.close()


def entries_of(count: int, log: str = "", first: int = NOW) -> list[JournalEntry]:
    """A log that is whole."""
    log = log or f"log-{uuid4().hex}"
    return [
        JournalEntry(
            log, first + number, first + number - 1 if number else 0, f"k{number}", f'{{"é":{number}}}', number
        )
        for number in range(count)
    ]


async def test_entries_after_a_known_seq_are_returned(journal: Journal) -> None:
    entries = entries_of(9)
    log = entries[0].topic
    await journal.append(*entries)
    for place, entry in enumerate(entries):
        assert await journal.read_after(log, entry.seq, 100) == entries[place + 1 :]
    assert await journal.read_after(log, entries[2].seq, 3) == entries[3:6]
    assert await journal.read_after(log, 0, 4) == entries[:4]
    assert await journal.latest(log, "none") == [entries[-1], None]


async def test_a_number_that_is_not_there_is_not_read_on_from(journal: Journal) -> None:
    entries = entries_of(5)
    log = entries[0].topic
    await journal.append(*entries)
    assert await journal.read_after(log, NOW - 1, 9) is None
    assert await journal.read_after(log, NOW + 9, 9) is None
    assert await journal.read_after(f"none-{log}", NOW, 9) is None
    assert await journal.read_after(f"none-{log}", 0, 9) == []


async def test_the_same_and_what_is_older_changes_nothing(journal: Journal) -> None:
    entries = entries_of(6)
    log = entries[0].topic
    await asyncio.gather(*(journal.append(*entries) for _ in range(4)))
    await journal.append(JournalEntry(log, NOW - 5, 0, "late", "{}", 1))
    assert await journal.read_after(log, 0, 100) == entries


async def test_a_hole_is_not_passed_over(journal: Journal) -> None:
    entries = entries_of(6)
    log = entries[0].topic
    await journal.append(*entries[:2], *entries[3:])
    assert await journal.read_after(log, entries[0].seq, 9) is None
    assert await journal.read_after(log, entries[3].seq, 9) == entries[4:]
    assert await journal.read_after(log, 0, 9) == entries[3:]


async def test_past_a_writer_that_knew_no_predecessor_nobody_reads_on(journal: Journal) -> None:
    """It may have told something in between that is not here."""
    entries = entries_of(2)
    log = entries[0].topic
    later = entries_of(2, log, NOW + 10_000)
    await journal.append(*entries, *later)
    assert await journal.read_after(log, entries[0].seq, 9) is None
    assert await journal.read_after(log, later[0].seq, 9) == later[1:]
    assert await journal.read_after(log, 0, 9) == later


async def test_the_oldest_give_way(journal: Journal) -> None:
    entries = entries_of(DEFAULT_MAX_ENTRIES + 7)
    log = entries[0].topic
    await journal.append(*entries)
    assert await journal.read_after(log, entries[6].seq, 9) is None
    assert await journal.read_after(log, entries[7].seq, DEFAULT_MAX_ENTRIES) == entries[8:]


@pytest.fixture(params=["memory", "redis"])
async def small(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    """A journal of eight megabytes, in a Redis that has nothing else."""
    if request.param == "memory":
        yield MemoryJournal(JOURNAL_MEGABYTES * 1_000_000)
        return
    server: servers.Server = request.getfixturevalue("redis")
    journal = RedisJournal(server.url, JOURNAL_MEGABYTES * 1_000_000)
    await journal._redis.flushdb()
    yield journal
    await journal._redis.flushdb()
    await journal.close()


async def used_bytes(journal: Journal) -> int:
    """What all logs take in bytes."""
    if isinstance(journal, RedisJournal):
        keys = [key async for key in journal._redis.scan_iter("journal:*")]
        return sum([await journal._redis.memory_usage(key, samples=0) or 0 for key in keys])
    assert isinstance(journal, MemoryJournal)
    return sum(sys.getsizeof(log) + sum(map(sys.getsizeof, log)) for log in journal._topics.values())


KINDS: dict[str, Callable[[int], str]] = {
    "few": lambda log: f"candle:binance:S{log % 20}-USDT:1m",
    "many": lambda log: f"candle:binance:S{log % 700}-USDT:1m",
    "readings": lambda log: f"reading:binance:S{log % 900}-USDT:1m:sma:20",
    "all": lambda log: ("rates", "choice", f"state:{log % 3}", f"candle:a:{log % 60}:1m", f"reading:a:{log % 90}:1m:x")[
        log % 5
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(150,), (20, 3_000), (3_000, 20)], ids=["even", "growing", "shrinking"])
async def test_all_logs_together_stay_below_their_bytes(small: Journal, kind: str, sizes: tuple[int, ...]) -> None:
    previous: dict[str, int] = {}
    names, number = KINDS[kind], NOW
    for size in sizes:
        for start in range(0, 12_000, 500):
            page = []
            for index in range(start, start + 500):
                number, name = number + 1_000, names(index)
                page.append(JournalEntry(name, number, previous.get(name, 0), f"k{index % 7}", f'"{"x" * size}"', 1))
                previous[name] = number
                if index % 3 == 0:
                    small.retain(name)
            await small.append(*page)
        assert await used_bytes(small) < JOURNAL_MEGABYTES * 1_000_000
    for name, last in sorted(previous.items(), key=itemgetter(1))[-5:]:
        (newest,) = await small.latest(name)
        assert newest
        assert newest.seq == last
        assert await small.read_after(name, NOW, 9) in (None, [])  # trimmed: a reset, not a hole
        assert await small.read_after(name, 0, 30_000)


async def test_followed_topic_retains_what_a_resume_needs(small: Journal) -> None:
    followed, unfollowed = "reading:binance:BTC-USDT:1m:sma:20", "reading:binance:BTC-USDT:1m:ema:20"
    small.retain(followed)
    for log in (followed, unfollowed):
        await small.append(*entries_of(200, log))
    assert len(await small.read_after(followed, 0, 999) or ()) == 200
    assert len(await small.read_after(unfollowed, 0, 999) or ()) == 2
    assert await small.read_after(unfollowed, NOW + 100, 9) is None


async def test_memory_journal_retains_ten_minutes() -> None:
    """Else a quiet log would go on growing for hours, and thousands of them."""
    minutes = iter(range(0, 30 * 60_000, 60_000))
    journal = MemoryJournal(monotonic=lambda: next(minutes))
    numbers = [NOW + number for number in range(30)]
    for number in numbers:
        await journal.append(JournalEntry("choice", number, number - 1, "", "{}", 0))
    kept = await journal.read_after("choice", 0, 99) or ()
    assert [entry.seq for entry in kept] == numbers[-11:]
    assert await journal.read_after("choice", numbers[5], 99) is None


async def test_entries_of_a_previous_process_are_read(redis: servers.Server) -> None:
    """A writer that starts anew cuts what it does not write itself."""
    before, after = (RedisJournal(redis.url, JOURNAL_MEGABYTES * 1_000_000) for _ in range(2))
    await before._redis.flushdb()
    try:
        for log in range(300):
            await before.append(*entries_of(60, f"candle:binance:OLD{log}:1m"))
        for log in range(300):
            await after.append(*entries_of(60, f"candle:binance:NEW{log}:1m"))
        assert await used_bytes(after) < JOURNAL_MEGABYTES * 1_000_000
        assert await after._redis.dbsize() <= 600
    finally:
        await before._redis.flushdb()
        await before.close()
        await after.close()


async def test_missing_redis_makes_the_journal_unavailable() -> None:
    journal = RedisJournal(f"redis://:a-secret@127.0.0.1:{servers.free_port()}/0")
    for question in (
        journal.append(*entries_of(1)),
        journal.read_after("x", 0, 1),
        journal.latest("x"),
        journal.ping(),
    ):
        with pytest.raises(Unavailable, match="Redis") as refused:
            await asyncio.wait_for(question, 5)
        assert "a-secret" not in str(refused.value)
    await journal.close()
