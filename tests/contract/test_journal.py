"""The contract of the journal, on each adapter."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from operator import itemgetter
from uuid import uuid4

import pytest

from services.adapters.memory import MemoryJournal
from services.adapters.redis import RedisJournal
from services.core.errors import Unavailable
from services.core.journal import DEFAULT_MAX_TOPIC_ENTRIES, JournalEntry
from services.ports import Journal
from tests import servers

NOW = 1_795_392_000_000_000  # microseconds, as a seq is
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


def entries_of(count: int, topic: str = "", first: int = NOW) -> list[JournalEntry]:
    """Return the entries of a topic without a gap."""
    topic = topic or f"topic-{uuid4().hex}"
    return [
        JournalEntry(
            topic, first + number, first + number - 1 if number else 0, f"k{number}", f'{{"é":{number}}}', number
        )
        for number in range(count)
    ]


async def test_entries_after_a_known_seq_are_returned(journal: Journal) -> None:
    entries = entries_of(9)
    topic = entries[0].topic
    await journal.append(*entries)
    for index, entry in enumerate(entries):
        assert await journal.read_after(topic, entry.seq, 100) == entries[index + 1 :]
    assert await journal.read_after(topic, entries[2].seq, 3) == entries[3:6]
    assert await journal.read_after(topic, 0, 4) == entries[:4]
    assert await journal.latest(topic, "none") == [entries[-1], None]


async def test_unknown_seq_returns_none(journal: Journal) -> None:
    entries = entries_of(5)
    topic = entries[0].topic
    await journal.append(*entries)
    assert await journal.read_after(topic, NOW - 1, 9) is None
    assert await journal.read_after(topic, NOW + 9, 9) is None
    assert await journal.read_after(f"none-{topic}", NOW, 9) is None
    assert await journal.read_after(f"none-{topic}", 0, 9) == []


async def test_repeated_and_older_entries_are_ignored(journal: Journal) -> None:
    entries = entries_of(6)
    topic = entries[0].topic
    await asyncio.gather(*(journal.append(*entries) for _ in range(4)))
    await journal.append(JournalEntry(topic, NOW - 5, 0, "late", "{}", 1))
    assert await journal.read_after(topic, 0, 100) == entries


async def test_entries_after_a_gap_are_returned_only_from_behind_it(journal: Journal) -> None:
    entries = entries_of(6)
    topic = entries[0].topic
    await journal.append(*entries[:2], *entries[3:])
    assert await journal.read_after(topic, entries[0].seq, 9) is None
    assert await journal.read_after(topic, entries[3].seq, 9) == entries[4:]
    assert await journal.read_after(topic, 0, 9) == entries[3:]


async def test_entry_without_a_predecessor_counts_as_a_gap(journal: Journal) -> None:
    """Its publisher may have published entries in between that are missing here."""
    entries = entries_of(2)
    topic = entries[0].topic
    later = entries_of(2, topic, NOW + 10_000)
    await journal.append(*entries, *later)
    assert await journal.read_after(topic, entries[0].seq, 9) is None
    assert await journal.read_after(topic, later[0].seq, 9) == later[1:]
    assert await journal.read_after(topic, 0, 9) == later


async def test_oldest_entries_are_dropped_beyond_a_number(journal: Journal) -> None:
    entries = entries_of(DEFAULT_MAX_TOPIC_ENTRIES + 7)
    topic = entries[0].topic
    await journal.append(*entries)
    assert await journal.read_after(topic, entries[6].seq, 9) is None
    assert await journal.read_after(topic, entries[7].seq, DEFAULT_MAX_TOPIC_ENTRIES) == entries[8:]


@pytest.fixture(params=["memory", "redis"])
async def bounded(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    """A journal of eight megabytes, in an empty Redis."""
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
    """Return the size of all topics in bytes."""
    if isinstance(journal, RedisJournal):
        keys = [key async for key in journal._redis.scan_iter("journal:*")]
        return sum([await journal._redis.memory_usage(key, samples=0) or 0 for key in keys])
    assert isinstance(journal, MemoryJournal)
    return sum(sys.getsizeof(topic) + sum(map(sys.getsizeof, topic)) for topic in journal._topics.values())


KINDS: dict[str, Callable[[int], str]] = {
    "few": lambda topic: f"candle:binance:S{topic % 20}-USDT:1m",
    "many": lambda topic: f"candle:binance:S{topic % 700}-USDT:1m",
    "indicators": lambda topic: f"reading:binance:S{topic % 900}-USDT:1m:sma:20",
    "all": lambda topic: (
        "rates",
        "choice",
        f"state:{topic % 3}",
        f"candle:a:{topic % 60}:1m",
        f"reading:a:{topic % 90}:1m:x",
    )[topic % 5],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(150,), (20, 3_000), (3_000, 20)], ids=["even", "growing", "shrinking"])
async def test_all_topics_together_stay_below_the_journals_bytes(
    bounded: Journal, kind: str, sizes: tuple[int, ...]
) -> None:
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
                    bounded.retain(name)
            await bounded.append(*page)
        assert await used_bytes(bounded) < JOURNAL_MEGABYTES * 1_000_000
    for name, last in sorted(previous.items(), key=itemgetter(1))[-5:]:
        (newest,) = await bounded.latest(name)
        assert newest
        assert newest.seq == last
        assert await bounded.read_after(name, NOW, 9) in (
            None,
            [],
        )  # None: the client gets a reset
        assert await bounded.read_after(name, 0, 30_000)


async def test_only_a_followed_topic_retains_enough_for_a_resume(bounded: Journal) -> None:
    followed, unfollowed = "reading:binance:BTC-USDT:1m:sma:20", "reading:binance:BTC-USDT:1m:ema:20"
    bounded.retain(followed)
    for topic in (followed, unfollowed):
        await bounded.append(*entries_of(200, topic))
    assert len(await bounded.read_after(followed, 0, 999) or ()) == 200
    assert len(await bounded.read_after(unfollowed, 0, 999) or ()) == 2
    assert await bounded.read_after(unfollowed, NOW + 100, 9) is None


async def test_memory_journal_retains_ten_minutes() -> None:
    """Otherwise thousands of quiet topics would grow for hours."""
    minutes = iter(range(0, 30 * 60_000, 60_000))
    journal = MemoryJournal(monotonic=lambda: next(minutes))
    numbers = [NOW + number for number in range(30)]
    for number in numbers:
        await journal.append(JournalEntry("choice", number, number - 1, "", "{}", 0))
    retained = await journal.read_after("choice", 0, 99) or ()
    assert [entry.seq for entry in retained] == numbers[-11:]
    assert await journal.read_after("choice", numbers[5], 99) is None


async def test_new_process_trims_the_topics_of_a_previous_one(redis: servers.Server) -> None:
    """Also topics to which it appends nothing."""
    before, after = (RedisJournal(redis.url, JOURNAL_MEGABYTES * 1_000_000) for _ in range(2))
    await before._redis.flushdb()
    try:
        for topic in range(300):
            await before.append(*entries_of(60, f"candle:binance:OLD{topic}:1m"))
        for topic in range(300):
            await after.append(*entries_of(60, f"candle:binance:NEW{topic}:1m"))
        assert await used_bytes(after) < JOURNAL_MEGABYTES * 1_000_000
        assert await after._redis.dbsize() <= 600
    finally:
        await before._redis.flushdb()
        await before.close()
        await after.close()


async def test_missing_redis_raises_unavailable_without_the_password() -> None:
    journal = RedisJournal(f"redis://:a-secret@127.0.0.1:{servers.free_port()}/0")
    for call in (
        journal.append(*entries_of(1)),
        journal.read_after("x", 0, 1),
        journal.latest("x"),
        journal.ping(),
    ):
        with pytest.raises(Unavailable, match="Redis") as refused:
            await asyncio.wait_for(call, 30)
        assert "a-secret" not in str(refused.value)
    await journal.close()
