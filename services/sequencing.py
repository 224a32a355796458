"""Sequenced publishing: numbers each message within its topic, and sends it to the bus and to the journal."""

import asyncio
import logging
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from services.core.errors import Unavailable
from services.core.journal import JournalEntry, key_and_payload, to_entry, topic_of
from services.core.markets import Market, next_seq
from services.core.model import Candle, IndicatorValue, Message, Position, Sequenced
from services.log_throttle import ThrottledLog
from services.ports import Bus, Clock, Deps, Journal

REMEMBERED_VALUES = 4  # of one indicator: only those of the newest candles change
MAX_REMEMBERED_TOPICS = 50_000  # clients request indicators with ever new parameters
JOURNAL_UNAVAILABLE = "journal: unavailable, clients that resume later may get a reset: %s"
log = logging.getLogger(__name__)


def sequenced_publisher(deps: Deps) -> "SequencedPublisher":
    """Return a publisher on a process's bus and journal."""
    return SequencedPublisher(bus=deps.bus, journal=deps.journal, clock=deps.clock, market=deps.hub.market)


class SequencedPublisher:
    """Publisher of one process, which is the only writer of its topics."""

    def __init__(self, *, bus: Bus, journal: Journal, clock: Clock, market: Market) -> None:
        self._bus, self._journal, self._clock, self._market = bus, journal, clock, market
        self._last_seq: dict[str, int] = {}  # by topic, the most recently used last
        self._last_payloads: dict[str, dict[str, str]] = {}  # by topic and key
        self._backlog: list[JournalEntry] = []  # published, but not in the journal yet
        self.journal_pending = asyncio.Event()  # set while the backlog has entries
        self._throttled_log = ThrottledLog(log)

    def retain_topic(self, topic: str) -> None:
        """Retain more entries of a topic, because a client follows it."""
        self._journal.retain(topic)

    def drop_topic(self, topic: str) -> None:
        """Free the state of a topic that is not published to for now."""
        self._last_seq.pop(topic, None)
        self._last_payloads.pop(topic, None)

    async def publish(self, *messages: Message) -> None:
        """Publish messages to the bus and the journal. Raises Unavailable when the bus does not take them.

        A message with the payload of its predecessor gets no seq: it only renews an age. An unchanged indicator value
        is not published at all. An unavailable journal is logged.
        """
        sequenced = await self._sequence_all(messages)
        outcomes = await asyncio.gather(self._bus.publish(*sequenced), self.flush_journal(), return_exceptions=True)
        for error in filter(None, outcomes):
            raise error

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
            self._throttled_log.warning(JOURNAL_UNAVAILABLE, error)

    async def _sequence_all(self, messages: Sequence[Message]) -> list[Message]:
        await self._resume_topics({topic_of(message) for message in messages if isinstance(message, Sequenced)})
        sequenced = [self._sequence(each) if isinstance(each, Sequenced) else each for each in messages]
        return [each for each in sequenced if not isinstance(each, IndicatorValue) or each.position]

    async def _resume_topics(self, topics: Collection[str]) -> None:
        """Know the last seq of each topic: an unknown topic continues after the last entry in the journal."""
        known = {topic: self._last_seq.pop(topic) for topic in topics if topic in self._last_seq}
        self._last_seq |= known
        if unknown := [topic for topic in topics if topic not in known]:
            entries = await self._latest_entries(unknown)
            self._last_seq |= {topic: entry.seq if entry else 0 for topic, entry in zip(unknown, entries, strict=True)}
            self._last_payloads |= {entry.topic: {entry.key: entry.data} for entry in entries if entry}
        while len(self._last_seq) > MAX_REMEMBERED_TOPICS + len(topics):
            self.drop_topic(next(iter(self._last_seq)))

    async def _latest_entries(self, topics: Sequence[str]) -> Sequence[JournalEntry | None]:
        try:
            return await self._journal.latest(*topics)
        except Unavailable as error:
            self._throttled_log.warning(JOURNAL_UNAVAILABLE, error)
            return [None] * len(topics)

    def _sequence(self, message: Sequenced) -> Sequenced:
        """Return the message with its position, with its entry in the backlog; unchanged if it is no news."""
        topic = topic_of(message)
        if not self._is_news(topic, message):
            return message
        previous, now = self._last_seq[topic], self._clock.now()
        position = Position(next_seq(now, previous, self._market), previous)
        self._last_seq[topic] = position.seq
        published = {"published": now} if isinstance(message, Candle | IndicatorValue) else {}
        sequenced = replace(message, position=position, **published)
        self._backlog.append(to_entry(sequenced, position))
        self.journal_pending.set()
        return sequenced

    def _is_news(self, topic: str, message: Sequenced) -> bool:
        """Return whether the payload differs from the last one of its key, and remember it."""
        if isinstance(message, Candle):  # the writer publishes only changed candles
            return True
        key, payload = key_and_payload(message)
        payloads = self._last_payloads.setdefault(topic, {})
        if payloads.get(key) == payload:
            return False
        if isinstance(message, IndicatorValue) and len(payloads) >= REMEMBERED_VALUES:
            payloads.clear()
        payloads[key] = payload
        return True
