"""One client of a live stream: what it follows, and how far it was told. Nothing waits for it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from services.api.streams import metrics
from services.api.streams.broadcaster import Fan
from services.api.streams.channels import Channel
from services.api.streams.encoding import News
from services.api.streams.topics import FULL, Slot
from services.core.errors import Unavailable
from services.core.journal import Entry
from services.core.model import SeriesProgress
from services.web import Wire

LOOK_SECONDS = 0.05  # between two looks at whether a client reads on, or the journal has what the bus brought
PATIENCE_SECONDS = 30  # in which it must have read what waits
LOOKS = 40  # at a journal that is behind the bus, before what it lacks is given up
FAREWELL_SECONDS = 1  # for the last words to be sent
UNKNOWN = "what was told after the given place is not known any more"
SLOW = "more was told than was read: what was in between is left out"


class Words(Protocol):
    """How a protocol says things, as bytes ready to be sent."""

    name: str

    def update(self, client: "Client", slot: Slot, news: News) -> bytes:
        """Something changed."""

    def standing(self, client: "Client", slot: Slot, entry: Entry) -> bytes:
        """How something stands."""

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """`reset`: what follows begins anew; `skipped`: some was left out."""

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """How far a series is loaded; None: all of it is."""

    def beat(self, second: int) -> bytes:
        """Nothing, from time to time; b"" in between."""

    def closing(self, slow: bool) -> bytes:
        """The end; the client is to come back. `slow`: because it did not read."""


class Client:
    """A client of any protocol."""

    __slots__ = ("_loading", "_pacing", "_task", "fan", "live", "slots", "wire", "words")

    def __init__(self, fan: Fan, wire: Wire, words: Words) -> None:
        self.fan, self.wire, self.words = fan, wire, words
        self.slots: dict[Channel, list[Slot]] = {}
        self.live = True
        self._loading: dict[Channel, SeriesProgress | None] = {}  # not loaded yet, and what was told of that
        self._task: asyncio.Task[None] | None = None
        self._pacing: dict[float, asyncio.Task[None]] = {}
        fan.join(self)
        metrics.CLIENTS.labels(words.name).inc()

    def leave(self) -> None:
        """The connection is over."""
        self.unfollow(list(self.slots))
        if self._task:
            self._task.cancel()
        self.fan.leave(self)
        metrics.CLIENTS.labels(self.words.name).dec()

    async def follow(
        self, channels: Iterable[Channel], after: Mapping[Channel, Sequence[int]], seconds: float | None = None
    ) -> None:
        """Follow channels, each log from the number `after` it, or from how things stand.

        `seconds`: the interval of those that have one, instead of their own.
        """
        new = {
            channel: self._slots(channel, after.get(channel, ()), seconds)
            for channel in channels
            if channel not in self.slots
        }
        slots = [slot for each in new.values() for slot in each]
        await self.fan.know((slot.log, slot.position) for slot in slots)
        for slot in slots:
            await self.fan.look(slot.channel, slot.log)
        self.slots |= new  # only now, and without a pause from here on: what is half begun is not to be read on
        for slot in slots:
            self._begin(slot)
        self._loading |= dict.fromkeys(channel for channel in new if self.fan.progress(channel))
        self.tell_loading()
        self.read_on()

    def tell_loading(self) -> None:
        """Say how far what it follows is loaded, where that is news: called each second."""
        if not self.live:
            return
        for channel, told in list(self._loading.items()):
            progress = self.fan.progress(channel)
            if progress is None:
                del self._loading[channel]
            if told if progress is None else progress != told and (progress.expected or progress.reason):
                self.say(self.words.loading(channel, progress))
                self._loading |= {channel: progress} if progress else {}

    def _slots(self, channel: Channel, places: Sequence[int], seconds: float | None) -> list[Slot]:
        interval = 0 if not channel.paced else channel.seconds if seconds is None else seconds
        slots = [Slot(self, channel, self.fan.log(name), interval) for name in channel.logs]
        for slot, place in zip(slots, places, strict=False):
            slot.position = place
        return slots

    def _begin(self, slot: Slot) -> None:
        if slot.position > slot.log.number:
            self.begin_anew(slot)
        elif slot.seconds or not slot.position:
            self._stand(slot, slot.log.standing)
        if slot.seconds:
            self._pace(slot.seconds)
        else:
            slot.log.add(slot)

    def unfollow(self, channels: Iterable[Channel]) -> None:
        """Follow them no longer."""
        for channel in channels:
            self._loading.pop(channel, None)
            for slot in self.slots.pop(channel, ()):
                slot.log.remove(slot)
        for seconds in self._pacing.keys() - {slot.seconds for slots in self.slots.values() for slot in slots}:
            self._pacing.pop(seconds).cancel()

    @property
    def cursor(self) -> str:
        """How far each log of its channels was told, in their order."""
        return ",".join([str(slot.position) for slots in self.slots.values() for slot in slots])

    def tell(self, slot: Slot, news: News) -> int:
        """Send an update. Answers how many bytes wait for the client."""
        return self.wire.write(self.words.update(self, slot, news))

    def say(self, words: bytes) -> None:
        """Send it, if anybody is there still."""
        self.wire.write(words)

    def beat(self, second: int) -> None:
        """Let it know that it is connected."""
        if (words := self.words.beat(second)) and self.live:
            self.say(words)

    def dismiss(self) -> None:
        """Send it elsewhere: this replica stops."""
        self._end(slow=False)

    def read_on(self) -> None:
        """Something may have been missed: read it in the journal, then hear again."""
        if self.live and self._late():
            self.live = False
            self._task = asyncio.create_task(self._reading())

    def begin_anew(self, slot: Slot) -> None:
        """What was told since then cannot be had: go on from how things stand."""
        self.say(self.words.notice("reset", [slot.channel.name], UNKNOWN))
        self._stand(slot, slot.log.number)

    def fall_behind(self) -> None:
        """It does not read what it is sent: it is sent nothing more until it has."""
        self.live = False
        self._task = asyncio.create_task(self._waiting())

    def _late(self) -> list[Slot]:
        return [s for slots in self.slots.values() for s in slots if s.late and not s.seconds]

    async def _reading(self) -> None:
        looks = 0
        while late := self._late():
            for slot in late:
                if not await self._read(slot, last=looks > LOOKS):
                    looks += 1
                    await asyncio.sleep(LOOK_SECONDS)
            await self._drained(FULL)
        self.live = True

    async def _read(self, slot: Slot, last: bool) -> bool:
        """Tell a page of what was missed; answers whether there was one. `last`: else it begins anew."""
        entries: list[Entry] | None = []
        with suppress(Unavailable):
            entries = await self.fan.after(slot.log, slot.position) if slot.position else None
        if slot not in self.slots.get(slot.channel, ()):  # it was unfollowed meanwhile
            return True
        if entries is None or (not entries and last):
            self.begin_anew(slot)
            return True
        for entry in entries:
            slot.position = entry.number
            if not slot.channel.key or slot.channel.key == entry.key:
                self.tell(slot, News(entry))
        return bool(entries)

    async def _waiting(self) -> None:
        if not await self.reads(0):
            return
        if late := self._late():
            metrics.SKIPPED.inc()
            self.say(self.words.notice("skipped", sorted({slot.channel.name for slot in late}), SLOW))
        for slot in late:
            self._stand(slot, slot.log.standing)
        self.live = True
        self.read_on()

    async def reads(self, most: int = FULL) -> bool:
        """Wait until no more than `most` bytes wait for it; False: that took too long, and it is cut."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._drained(most)
        except TimeoutError:
            metrics.CUT.inc()
            self._end(slow=True)
            return False
        return True

    async def _drained(self, most: int) -> None:
        while self.wire.waiting > most:  # noqa: ASYNC110  a transport tells only its protocol
            await asyncio.sleep(LOOK_SECONDS)

    def _stand(self, slot: Slot, number: int) -> None:
        """Say how things stand up to a number; only who has heard all of it has come that far."""
        entries = self.fan.known(slot.channel, slot.log, number)
        for left, entry in enumerate(entries, 1 - len(entries)):
            slot.position = slot.position if left else number
            self.say(self.words.standing(self, slot, entry))
        slot.position = number

    def _pace(self, seconds: float) -> None:
        if seconds not in self._pacing:
            self._pacing[seconds] = asyncio.create_task(self._paced(seconds))

    async def _paced(self, seconds: float) -> None:
        """Say how things stand, each time that the interval is over."""
        while True:
            await asyncio.sleep(seconds)
            await self._drained(FULL)
            for slot in [slot for slots in self.slots.values() for slot in slots if slot.seconds == seconds]:
                slot.position = slot.log.standing
                for entry in self.fan.known(slot.channel, slot.log, slot.position):
                    self.tell(slot, News(entry))

    def _end(self, slow: bool) -> None:
        """Say goodbye, and hang up soon even if nobody listens."""
        self.live = False
        self.wire.write(self.words.closing(slow))
        self.wire.close()
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self.wire.abort)
