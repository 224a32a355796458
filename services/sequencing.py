"""Sequenced publishing: numbers each message within its topic, and sends it to the bus and to the journal."""

import asyncio
import logging
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from services.core.errors import Unavailable
from services.core.journal import JournalEntry, key_and_payload, to_entry, topic_of
from services.core.markets import next_seq
from services.core.model import Candle, IndicatorValue, Message, Position, Sequenced
from services.log_throttle import ThrottledLog
from services.ports import Bus, Clock, Deps, Journal

REMEMBERED_VALUES = 4  # of one indicator: only those of the newest candles change
MAX_REMEMBERED_TOPICS = 50_000  # clients request indicators with ever new parameters
JOURNAL_UNAVAILABLE = "journal: unavailable, clients that resume later may get a reset: %s"
log = logging.getLogger(__name__)


class SequencedPublisher:
    """Publisher of one process, which is the only writer of its topics."""

    def __init__(self, deps: Deps) -> None:
        self._bus: Bus = deps.bus
        self._journal: Journal = deps.journal
        self._clock: Clock = deps.clock
        self._market = deps.hub.market
        self._last_seq: dict[str, int] = {}  # by topic
        self._last_payloads: dict[str, dict[str, str]] = {}  # by topic and key
        self._backlog: list[JournalEntry] = []  # published, but not in the journal yet
        self.journal_pending = asyncio.Event()  # set while the backlog has entries
        self._complaints = ThrottledLog(log)

    def retain_topic(self, log: str) -> None:
        """Retain more entries of a topic, because a client follows it."""
        self._journal.retain(log)

    def drop_topic(self, log: str) -> None:
        """Free the state of a topic that is not published to for now."""
        self._last_seq.pop(log, None)
        self._last_payloads.pop(log, None)

    async def publish(self, *messages: Message) -> None:
        """Publish messages to the bus and the journal. Raises Unavailable when the bus does not take them.

        A message with the payload of its predecessor gets no seq: it only renews an age. An unchanged indicator value
        is not published at all. An unavailable journal is logged.
        """
        placed = await self._sequence_all(messages)
        for outcome in await asyncio.gather(self._bus.publish(*placed), self.flush_journal(), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def publish_unjournaled(self, *messages: Message) -> None:
        """Publish to the bus only, to save time. The caller calls `flush_journal` whenever `journal_pending` is set."""
        await self._bus.publish(*await self._sequence_all(messages))

    async def flush_journal(self) -> None:
        """Append the backlog to the journal. Calls must not overlap, because the order of entries matters."""
        entries, self._backlog = self._backlog, []
        self.journal_pending.clear()
        try:
            await self._journal.append(*entries)
        except Unavailable as error:
            self._complaints.warning(JOURNAL_UNAVAILABLE, error)

    async def _sequence_all(self, messages: Sequence[Message]) -> list[Message]:
        await self._resume_topics({topic_of(message) for message in messages if isinstance(message, Sequenced)})
        placed = [self._sequence(each) if isinstance(each, Sequenced) else each for each in messages]
        return [each for each in placed if not isinstance(each, IndicatorValue) or each.position]

    async def _resume_topics(self, logs: Collection[str]) -> None:
        """Continue topics after the last entry of the previous writer."""
        known = {name: self._last_seq.pop(name) for name in logs if name in self._last_seq}
        self._last_seq |= known  # the most recently used last
        if new := [name for name in logs if name not in known]:
            last: Sequence[JournalEntry | None] = await self._latest_entries(new)
            self._last_seq |= {name: entry.seq if entry else 0 for name, entry in zip(new, last, strict=True)}
            self._last_payloads |= {entry.topic: {entry.key: entry.data} for entry in last if entry}
        while len(self._last_seq) > MAX_REMEMBERED_TOPICS + len(known) + len(new):
            oldest = next(iter(self._last_seq))
            del self._last_seq[oldest]
            self._last_payloads.pop(oldest, None)

    async def _latest_entries(self, logs: Sequence[str]) -> Sequence[JournalEntry | None]:
        try:
            return await self._journal.latest(*logs)
        except Unavailable as error:
            self._complaints.warning(JOURNAL_UNAVAILABLE, error)
            return [None] * len(logs)

    def _sequence(self, message: Sequenced) -> Sequenced:
        name, (key, said) = topic_of(message), key_and_payload(message)
        if not isinstance(message, Candle):  # the writer publishes only changed candles
            known = self._last_payloads.setdefault(name, {})
            if known.get(key) == said:
                return message
            if isinstance(message, IndicatorValue) and len(known) >= REMEMBERED_VALUES:
                known.clear()
            known[key] = said
        previous, now = self._last_seq[name], self._clock.now()
        place = Position(next_seq(now, previous, self._market), previous)
        self._last_seq[name] = place.seq
        published = {"published": now} if isinstance(message, Candle | IndicatorValue) else {}
        placed = replace(message, position=place, **published)
        self._backlog.append(to_entry(placed, place))
        self.journal_pending.set()
        return placed
