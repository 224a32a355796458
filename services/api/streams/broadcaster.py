"""What this replica has heard, log by log, and telling it to all who follow."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol
from weakref import WeakValueDictionary

from msgspec.structs import replace

from services.api.backfill_status import Backfill
from services.api.candles.served_candles import LATE, Reader
from services.api.streams.channels import Channel
from services.api.streams.encoding import News
from services.api.streams.topics import Log
from services.core.errors import Unavailable
from services.core.journal import Entry, entered, log_of
from services.core.markets import Market
from services.core.model import Candle, Place, Placed, Reading, Series, SeriesProgress, Wish
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps
from services.web import Once

LOOK_SECONDS = 1  # between two looks for what the bus did not bring
LOOKS, JOURNAL_SECONDS = 20, 0.05  # at a journal that may be behind
WISH_SECONDS, WISHED_MS = 10, 30_000
PAGE = 500  # entries that are read at once
REQUESTED = 1_000  # candles of a followed series that are fetched first
REMEMBERED = 10_000  # logs; then those that nobody follows are forgotten
UNHEARD_MS = 600_000  # after which an indicator that is computed for who watches it alone is forgotten
logger = logging.getLogger(__name__)


class Member(Protocol):
    """A client, as far as all of them are treated alike."""

    def beat(self, second: int) -> None:
        """Let it know that it is connected; called each second."""

    def tell_loading(self) -> None:
        """Say how far what it follows is loaded; called each second."""

    def dismiss(self) -> None:
        """Send it elsewhere: this replica stops."""


class Fan:
    """Everything that was heard goes to those who follow it. Works in the background while there are clients."""

    def __init__(self, deps: Deps) -> None:
        self._deps, self._hub, self._journal = deps, deps.hub, deps.journal
        self.members: dict[Member, None] = {}
        self._logs: WeakValueDictionary[str, Log] = WeakValueDictionary()  # those that are heard of or followed
        self._remembered: set[Log] = set()  # heard of, whoever follows them
        self._once: Once[tuple[str, int], list[Entry] | None] = Once()
        self._last: Once[Series, list[Candle]] = Once()
        self._backfill, self._reader = Backfill(deps), Reader(deps)
        self._progress: dict[Series, SeriesProgress | None] = {}  # as it was in this second
        self._tending: asyncio.Task[None] | None = None
        self.closed = False
        deps.hub.on_placed(self._heard)
        deps.hub.on_close(self._close)

    @property
    def market(self) -> Market:
        """What market everything here comes from."""
        return self._hub.market

    def join(self, member: Member) -> None:
        """One more client."""
        self.members[member] = None
        if self._tending is None:
            self._progress.clear()
            self._tending = asyncio.create_task(self._tend())

    def leave(self, member: Member) -> None:
        """One client less."""
        self.members.pop(member, None)
        if not self.members and self._tending:
            self._tending.cancel()
            self._tending = None

    def log(self, name: str) -> Log:
        """A log by its name."""
        found = self._logs.get(name)
        if found is None:
            found = self._logs[name] = Log(name)
        return found

    async def know(self, places: Iterable[tuple[Log, int]]) -> None:
        """Learn how far logs are of which less is known than what others have. An absent journal leaves that open.

        What one replica has told may be on its way to the journal still, and to this one: it is waited for a little.
        """
        places = list(places)
        with suppress(Unavailable):
            for look in range(LOOKS):
                await asyncio.sleep(look and JOURNAL_SECONDS)
                await self._learn(list({log: None for log, place in places if not log.asked or log.number < place}))
                if all(place <= log.number for log, place in places):
                    return

    async def after(self, log: Log, number: int) -> list[Entry] | None:
        """A page of what was told after that number; None: it is not known. Who asks the same shares the answer."""
        return await self._once.make((log.name, number), self._read)

    async def look(self, channel: Channel, log: Log) -> None:
        """Learn how things stand in a series of which nothing was heard yet. An absent store leaves that open."""
        if channel.series and not channel.indicator and log.newest is None and log.last is None:
            with suppress(Unavailable):
                kept = await self._last.make(channel.series, self._kept)
                log.newest = log.newest or next(iter(kept), None)

    def known(self, channel: Channel, log: Log, number: int) -> list[Entry]:
        """How things stand on a channel, as far as it is at hand: entries that hold up to that number of the log."""
        if channel.series and log.newest is None:
            return [replace(log.last, number=number)] if log.last else []
        place, now = Place(number, number), self._deps.clock.now()
        return [entered(message, place, now) for message in self._newest(channel, log)]

    def _newest(self, channel: Channel, log: Log) -> list[Placed]:
        if channel.series:
            return [log.newest] if log.newest and not self._over(log.newest, log) else []
        return [*self._hub.sent(log.name, channel.key)]

    def _over(self, message: Candle | Reading, log: Log) -> bool:
        """Whether its candle ended without being closed, and nothing was heard since: it has a part of its values."""
        if message.closed or self._deps.clock.monotonic() - log.heard_at < LATE:
            return False
        return _opening(message) < self._reader.forming_since(message.series)

    def _heard(self, message: Placed) -> None:
        place, log = message.place or Place(0, 0), self.log(log_of(message))
        self._remembered.add(log)
        log.heard_at = self._deps.clock.monotonic()
        if isinstance(message, Candle | Reading) and (log.newest is None or _opening(message) >= _opening(log.newest)):
            log.newest = message
        if not log.followed:
            log.pass_by(place)
            return
        entry = entered(message, place)
        news = News(entry)
        for slot in log.hear(entry):
            slot.hear(news)

    async def _kept(self, series: Series) -> list[Candle]:
        return await self._reader.last(series, self._deps.clock.now(), 1)

    async def _read(self, place: tuple[str, int]) -> list[Entry] | None:
        log, number = place
        entries = await self._journal.after(log, number, PAGE)
        if entries is None:
            (newest,) = await self._journal.newest(log)
            return [] if newest and newest.number < number else None  # it is not there yet, or not any more
        return entries

    async def _learn(self, logs: list[Log]) -> None:
        """Look into the journal for the newest of these."""
        newest = await self._journal.newest(*(log.name for log in logs)) if logs else []
        for log, entry in zip(logs, newest, strict=True):
            log.asked, log.last, log.number = True, entry, max(log.number, entry.number if entry else 0)

    async def _overdue(self) -> list[Log]:
        """Logs of which the bus has not brought yet what the journal had at the last look: it is on its way for ms."""
        followed = [log for log in list(self._logs.values()) if log.followed]
        newest = await self._journal.newest(*(log.name for log in followed)) if followed else []
        overdue = [log for log in followed if log.number < log.due]
        for log, entry in zip(followed, newest, strict=True):
            log.number, log.due = max(log.number, log.due), entry.number if entry else 0
        return overdue

    async def _tend(self) -> None:
        """Look for what was missed, ask for what is watched, and let clients know that they are connected."""
        for second in range(2**62):
            await asyncio.sleep(LOOK_SECONDS)
            try:
                for log in await self._overdue():
                    for slot in log.slots:
                        slot.follower.read_on()
                if second % WISH_SECONDS == 0:
                    self._forget()
                    await self.wish({slot.channel for log in list(self._logs.values()) for slot in log.slots})
            except Unavailable as error:
                logger.debug("live streams look again later: %s", error)
            self._progress.clear()
            for member in list(self.members):
                member.beat(second)
                member.tell_loading()

    def _forget(self) -> None:
        """Keep no more of logs that nobody follows than how things stand in those that go on by themselves."""
        if len(self._remembered) > REMEMBERED:
            self._remembered = {log for log in self._remembered if log.followed}
        since = self._deps.clock.monotonic() - UNHEARD_MS
        self._remembered = {log for log in self._remembered if log.heard_at >= since or log.followed or log.lasting}

    def progress(self, channel: Channel) -> SeriesProgress | None:
        """How far a channel's series is loaded, as of this second; None: all of it is, or it has none."""
        series = channel.series
        if series is None:
            return None
        if series not in self._progress:
            self._progress[series] = self._backfill.progress(series)
        return self._progress[series]

    async def request(self, channels: Iterable[Channel]) -> None:
        """Have what is missing of these fetched first."""
        now = self._deps.clock.now()
        for series in {channel.series for channel in channels if channel.series}:
            timeframe = TIMEFRAMES[series.timeframe]
            await self._backfill.request(series, timeframe.back(timeframe.opening(now), REQUESTED), now)

    async def wish(self, channels: Iterable[Channel]) -> None:
        """Ask for the indicators among these; soon again, if the bus does not take it."""
        until = self._deps.clock.now() + WISHED_MS
        watched = {(each.series, each.indicator) for each in channels if each.series and each.indicator}
        with suppress(Unavailable):
            await self._deps.bus.publish(*(Wish(*each, until) for each in sorted(watched)))
        await self.request(channels)

    def _close(self) -> None:
        self.closed = True
        for member in list(self.members):
            member.dismiss()


def _opening(message: Candle | Reading) -> int:
    return message.bar.timestamp if isinstance(message, Candle) else message.timestamp
