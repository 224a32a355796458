"""Reads the journal for all clients of this replica."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from services.api.streams.topics import TopicState
from services.core.errors import Unavailable
from services.core.journal import JournalEntry
from services.ports import Journal
from services.web import SingleFlight

MAX_PAGE_ENTRIES = 500
MAX_HEAD_READS = 20  # of a journal that is behind a position
HEAD_RETRY_SECONDS = 0.05  # between two such reads


class JournalReader:
    """Pages and heads of topics. Clients that need the same page at once share one read."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pages: SingleFlight[tuple[str, int], list[JournalEntry] | None] = SingleFlight()

    async def read_after(self, topic: str, seq: int) -> list[JournalEntry] | None:
        """Return a page of entries after a seq; None if they are lost. Raises Unavailable."""
        return await self._pages.run((topic, seq), self._read_page)

    async def sync_heads(self, positions: Iterable[tuple[TopicState[Any], int]]) -> None:
        """Read the heads of topics that are new or behind a client's position. An unavailable journal leaves them.

        An entry that another replica has sent may be on its way to the journal and to this replica: wait a second.
        """
        positions = list(positions)
        with suppress(Unavailable):
            for attempt in range(MAX_HEAD_READS):
                await asyncio.sleep(attempt and HEAD_RETRY_SECONDS)
                unknown = {topic: None for topic, seq in positions if not topic.head_read or topic.known_seq < seq}
                for topic, head in zip(unknown, await self._newest(list(unknown)), strict=True):
                    topic.on_journal_head(head)
                if all(seq <= topic.known_seq for topic, seq in positions):
                    return

    async def scan(self, topics: Sequence[TopicState[Any]]) -> list[TopicState[Any]]:
        """Return the topics of which the bus has lost entries. To be called at regular times. Raises Unavailable."""
        heads = await self._newest(topics)
        return [t for t, head in zip(topics, heads, strict=True) if t.on_journal_scan(head.seq if head else 0)]

    async def _newest(self, topics: Sequence[TopicState[Any]]) -> Sequence[JournalEntry | None]:
        return await self._journal.latest(*(topic.name for topic in topics)) if topics else []

    async def _read_page(self, after: tuple[str, int]) -> list[JournalEntry] | None:
        topic, seq = after
        entries = await self._journal.read_after(topic, seq, MAX_PAGE_ENTRIES)
        if entries is None:
            (newest,) = await self._journal.latest(topic)
            return [] if newest and newest.seq < seq else None  # behind, or past
        return entries
