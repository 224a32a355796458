"""Sends a client from the journal what it lacks."""

import asyncio
from contextlib import suppress
from typing import Any

from services.api.streams.encoders import EncodedUpdate
from services.api.streams.journal_reader import JournalReader
from services.api.streams.output import MAX_BUFFERED_BYTES, ClientOutput
from services.api.streams.topics import Subscription
from services.core.errors import Unavailable
from services.core.journal import JournalEntry

RETRY_SECONDS = 0.05  # between two reads of a journal that lacks what the bus has brought
MAX_RETRIES = 40  # then a subscription is reset


class CatchUp:
    """The catch-up of one client."""

    __slots__ = ("_journal", "_output")

    def __init__(self, output: ClientOutput, journal: JournalReader) -> None:
        self._output, self._journal = output, journal

    async def run(self) -> None:
        """Send pages of missing entries, until no subscription is behind."""
        retries = 0
        while lagging := self._output.lagging:
            for subscription in lagging:
                if not await self._send_page(subscription, reset_if_empty=retries > MAX_RETRIES):
                    retries += 1
                    await asyncio.sleep(RETRY_SECONDS)
            await self._output.drained(MAX_BUFFERED_BYTES)

    async def _send_page(self, subscription: Subscription[Any], reset_if_empty: bool) -> bool:
        """Send a page of entries, or a reset if they are lost; return whether anything was done."""
        entries = await self._read_page(subscription)
        if not self._output.has(subscription):  # it was unsubscribed meanwhile
            return True
        if entries is None or (not entries and reset_if_empty):
            self._output.send_reset(subscription)
            return True
        key = subscription.channel.key
        for entry in entries:
            subscription.position = entry.seq
            if not key or key == entry.key:
                self._output.send_update(subscription, EncodedUpdate(entry))
        return bool(entries)

    async def _read_page(self, subscription: Subscription[Any]) -> list[JournalEntry] | None:
        """Read the next entries: empty while the journal is unavailable or behind, None if they are lost."""
        if not subscription.position:
            return None
        with suppress(Unavailable):
            return await self._journal.read_after(subscription.topic.name, subscription.position)
        return []
