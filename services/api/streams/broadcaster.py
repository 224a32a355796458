"""What this replica has heard, log by log, and telling it to all who follow."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

from msgspec.structs import replace

from services.api.backfill_status import BackfillStatus
from services.api.candles.served_candles import FORMING_GRACE_MS, ServedCandles
from services.api.streams.channels import Channel
from services.api.streams.encoding import EncodedUpdate
from services.api.streams.topics import TopicState
from services.core.errors import Unavailable
from services.core.journal import JournalEntry, to_entry, topic_of
from services.core.markets import Market
from services.core.model import Candle, IndicatorRequest, IndicatorValue, Position, Sequenced, Series, SeriesProgress
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps
from services.web import SingleFlight

MAINTENANCE_SECONDS = 1  # between two looks for what the bus did not bring
MAX_JOURNAL_READS, JOURNAL_RETRY_SECONDS = 20, 0.05  # at a journal that may be behind
INDICATOR_REQUEST_SECONDS, INDICATOR_REQUEST_TTL_MS = 10, 30_000
MAX_PAGE_ENTRIES = 500  # entries that are read at once
PRIORITY_BACKFILL_CANDLES = 1_000  # candles of a followed series that are fetched first
MAX_TOPICS = 10_000  # logs; then those that nobody follows are forgotten
IDLE_TOPIC_TTL_MS = 600_000  # after which an indicator that is computed for who watches it alone is forgotten
logger = logging.getLogger(__name__)


class Member(Protocol):
    """A client, as far as all of them are treated alike."""

    def heartbeat(self, second: int) -> None:
        """Let it know that it is connected; called each second."""

    def send_loading(self) -> None:
        """Say how far what it follows is loaded; called each second."""

    def send_going_away(self) -> None:
        """Send it elsewhere: this replica stops."""


class Broadcaster:
    """Everything that was heard goes to those who follow it. Works in the background while there are clients."""

    def __init__(self, deps: Deps) -> None:
        self._deps, self._hub, self._journal = deps, deps.hub, deps.journal
        self.clients: dict[Member, None] = {}
        self._topics: WeakValueDictionary[str, TopicState] = (
            WeakValueDictionary()
        )  # those that are heard of or followed
        self._remembered: set[TopicState] = set()  # heard of, whoever follows them
        self._pages_in_flight: SingleFlight[tuple[str, int], list[JournalEntry] | None] = SingleFlight()
        self._candles_in_flight: SingleFlight[Series, list[Candle]] = SingleFlight()
        self._backfill, self._reader = BackfillStatus(deps), ServedCandles(deps)
        self._progress: dict[Series, SeriesProgress | None] = {}  # as it was in this second
        self._maintenance_task: asyncio.Task[None] | None = None
        self.closed = False
        deps.hub.on_sequenced(self.on_message)
        deps.hub.on_close(self._close)

    @property
    def market(self) -> Market:
        """What market everything here comes from."""
        return self._hub.market

    def add(self, client: Member) -> None:
        """One more client."""
        self.clients[client] = None
        if self._maintenance_task is None:
            self._progress.clear()
            self._maintenance_task = asyncio.create_task(self._maintenance_loop())

    def remove(self, client: Member) -> None:
        """One client less."""
        self.clients.pop(client, None)
        if not self.clients and self._maintenance_task:
            self._maintenance_task.cancel()
            self._maintenance_task = None

    def topic(self, name: str) -> TopicState:
        """A log by its name."""
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = TopicState(name)
        return found

    async def sync_heads(self, positions: Iterable[tuple[TopicState, int]]) -> None:
        """Learn how far logs are of which less is known than what others have. An absent journal leaves that open.

        What one replica has told may be on its way to the journal still, and to this one: it is waited for a little.
        """
        positions = list(positions)
        with suppress(Unavailable):
            for look in range(MAX_JOURNAL_READS):
                await asyncio.sleep(look and JOURNAL_RETRY_SECONDS)
                await self._read_heads(
                    list({log: None for log, place in positions if not log.head_read or log.known_seq < place})
                )
                if all(place <= log.known_seq for log, place in positions):
                    return

    async def read_after(self, topic: TopicState, seq: int) -> list[JournalEntry] | None:
        """A page of what was told after that number; None: it is not known. Who asks the same shares the answer."""
        return await self._pages_in_flight.run((topic.name, seq), self._read_page)

    async def load_snapshot(self, channel: Channel, topic: TopicState) -> None:
        """Learn how things stand in a series of which nothing was heard yet. An absent store leaves that open."""
        if channel.series and not channel.indicator and topic.latest is None and topic.last_entry is None:
            with suppress(Unavailable):
                kept = await self._candles_in_flight.run(channel.series, self._load_latest_candle)
                topic.latest = topic.latest or next(iter(kept), None)

    def snapshot(self, channel: Channel, topic: TopicState, seq: int) -> list[JournalEntry]:
        """How things stand on a channel, as far as it is at hand: entries that hold up to that number of the log."""
        if channel.series and topic.latest is None:
            return [replace(topic.last_entry, seq=seq)] if topic.last_entry else []
        place, now = Position(seq, seq), self._deps.clock.now()
        return [to_entry(message, place, now) for message in self._latest_messages(channel, topic)]

    def _latest_messages(self, channel: Channel, topic: TopicState) -> list[Sequenced]:
        if channel.series:
            return [topic.latest] if topic.latest and not self._ended_unclosed(topic.latest, topic) else []
        return [*self._hub.latest_messages(topic.name, channel.key)]

    def _ended_unclosed(self, message: Candle | IndicatorValue, topic: TopicState) -> bool:
        """Whether its candle ended without being closed, and nothing was heard since: it has a part of its values."""
        if message.closed or self._deps.clock.monotonic() - topic.received_at < FORMING_GRACE_MS:
            return False
        return _open_time(message) < self._reader.forming_since(message.series)

    def on_message(self, message: Sequenced) -> None:
        place, log = message.position or Position(0, 0), self.topic(topic_of(message))
        self._remembered.add(log)
        log.received_at = self._deps.clock.monotonic()
        if isinstance(message, Candle | IndicatorValue) and (
            log.latest is None or _open_time(message) >= _open_time(log.latest)
        ):
            log.latest = message
        if not log.has_subscriptions:
            log.on_position(place)
            return
        entry = to_entry(message, place)
        news = EncodedUpdate(entry)
        for slot in log.on_entry(entry):
            slot.on_update(news)

    async def _load_latest_candle(self, series: Series) -> list[Candle]:
        return await self._reader.latest(series, self._deps.clock.now(), 1)

    async def _read_page(self, place: tuple[str, int]) -> list[JournalEntry] | None:
        log, number = place
        entries = await self._journal.read_after(log, number, MAX_PAGE_ENTRIES)
        if entries is None:
            (newest,) = await self._journal.latest(log)
            return [] if newest and newest.seq < number else None  # it is not there yet, or not any more
        return entries

    async def _read_heads(self, topics: list[TopicState]) -> None:
        """Look into the journal for the newest of these."""
        newest = await self._journal.latest(*(log.name for log in topics)) if topics else []
        for log, entry in zip(topics, newest, strict=True):
            log.head_read, log.last_entry, log.known_seq = True, entry, max(log.known_seq, entry.seq if entry else 0)

    async def _missed_by_bus(self) -> list[TopicState]:
        """Logs of which the bus has not brought yet what the journal had at the last look: it is on its way for ms."""
        followed = [log for log in list(self._topics.values()) if log.has_subscriptions]
        newest = await self._journal.latest(*(log.name for log in followed)) if followed else []
        overdue = [log for log in followed if log.known_seq < log.journal_seq]
        for log, entry in zip(followed, newest, strict=True):
            log.known_seq, log.journal_seq = max(log.known_seq, log.journal_seq), entry.seq if entry else 0
        return overdue

    async def _maintenance_loop(self) -> None:
        """Look for what was missed, ask for what is watched, and let clients know that they are connected."""
        for second in count():
            await asyncio.sleep(MAINTENANCE_SECONDS)
            try:
                for log in await self._missed_by_bus():
                    for slot in log.subscriptions:
                        slot.subscriber.catch_up()
                if second % INDICATOR_REQUEST_SECONDS == 0:
                    self._drop_idle_topics()
                    await self.request_indicators(
                        {slot.channel for log in list(self._topics.values()) for slot in log.subscriptions}
                    )
            except Unavailable as error:
                logger.debug("live streams look again later: %s", error)
            self._progress.clear()
            for member in list(self.clients):
                member.heartbeat(second)
                member.send_loading()

    def _drop_idle_topics(self) -> None:
        """Keep no more of logs that nobody follows than how things stand in those that go on by themselves."""
        if len(self._remembered) > MAX_TOPICS:
            self._remembered = {log for log in self._remembered if log.has_subscriptions}
        since = self._deps.clock.monotonic() - IDLE_TOPIC_TTL_MS
        self._remembered = {
            log for log in self._remembered if log.received_at >= since or log.has_subscriptions or log.permanent
        }

    def progress(self, channel: Channel) -> SeriesProgress | None:
        """How far a channel's series is loaded, as of this second; None: all of it is, or it has none."""
        series = channel.series
        if series is None:
            return None
        if series not in self._progress:
            self._progress[series] = self._backfill.progress(series)
        return self._progress[series]

    async def request_backfill(self, channels: Iterable[Channel]) -> None:
        """Have what is missing of these fetched first."""
        now = self._deps.clock.now()
        for series in {channel.series for channel in channels if channel.series}:
            timeframe = TIMEFRAMES[series.timeframe]
            await self._backfill.request(
                series, timeframe.step_back(timeframe.open_time(now), PRIORITY_BACKFILL_CANDLES), now
            )

    async def request_indicators(self, channels: Iterable[Channel]) -> None:
        """Ask for the indicators among these; soon again, if the bus does not take it."""
        until = self._deps.clock.now() + INDICATOR_REQUEST_TTL_MS
        watched = {(each.series, each.indicator) for each in channels if each.series and each.indicator}
        with suppress(Unavailable):
            await self._deps.bus.publish(*(IndicatorRequest(*each, until) for each in sorted(watched)))
        await self.request_backfill(channels)

    def _close(self) -> None:
        self.closed = True
        for member in list(self.clients):
            member.send_going_away()


def _open_time(message: Candle | IndicatorValue) -> int:
    return message.bar.open_time if isinstance(message, Candle) else message.open_time
