"""One client of a live stream: what it follows, and how far it was told. Nothing waits for it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from services.api.streams import metrics
from services.api.streams.broadcaster import Broadcaster
from services.api.streams.channels import Channel
from services.api.streams.encoding import EncodedUpdate
from services.api.streams.topics import MAX_BUFFERED_BYTES, Subscription
from services.core.errors import Unavailable
from services.core.journal import JournalEntry
from services.core.model import SeriesProgress
from services.web import DirectWriter

POLL_SECONDS = 0.05  # between two looks at whether a client reads on, or the journal has what the bus brought
DRAIN_TIMEOUT_SECONDS = 30  # in which it must have read what waits
MAX_JOURNAL_POLLS = 40  # at a journal that is behind the bus, before what it lacks is given up
CLOSE_GRACE_SECONDS = 1  # for the last words to be sent
RESET_REASON = "what was told after the given place is not known any more"
SKIPPED_REASON = "more was told than was read: what was in between is left out"


class Encoder(Protocol):
    """How a protocol says things, as bytes ready to be sent."""

    name: str

    def update(self, client: "StreamClient", slot: Subscription, news: EncodedUpdate) -> bytes:
        """Something changed."""

    def snapshot(self, client: "StreamClient", slot: Subscription, entry: JournalEntry) -> bytes:
        """How something stands."""

    def notice(self, kind: str, channels: Sequence[str], reason: str) -> bytes:
        """`reset`: what follows begins anew; `skipped`: some was left out."""

    def loading(self, channel: Channel, progress: SeriesProgress | None) -> bytes:
        """How far a series is loaded; None: all of it is."""

    def heartbeat(self, second: int) -> bytes:
        """Nothing, from time to time; b"" in between."""

    def goodbye(self, slow: bool) -> bytes:
        """The end; the client is to come back. `slow`: because it did not read."""


class StreamClient:
    """A client of any protocol."""

    __slots__ = ("_interval_tasks", "_loading", "_task", "broadcaster", "encoder", "live", "subscriptions", "wire")

    def __init__(self, broadcaster: Broadcaster, wire: DirectWriter, encoder: Encoder) -> None:
        self.broadcaster, self.wire, self.encoder = broadcaster, wire, encoder
        self.subscriptions: dict[Channel, list[Subscription]] = {}
        self.live = True
        self._loading: dict[Channel, SeriesProgress | None] = {}  # not loaded yet, and what was told of that
        self._task: asyncio.Task[None] | None = None
        self._interval_tasks: dict[float, asyncio.Task[None]] = {}
        broadcaster.add(self)
        metrics.CLIENTS.labels(encoder.name).inc()

    def close(self) -> None:
        """The connection is over."""
        self.unsubscribe(list(self.subscriptions))
        if self._task:
            self._task.cancel()
        self.broadcaster.remove(self)
        metrics.CLIENTS.labels(self.encoder.name).dec()

    async def subscribe(
        self, channels: Iterable[Channel], positions: Mapping[Channel, Sequence[int]], interval: float | None = None
    ) -> None:
        """Follow channels, each log from the number `after` it, or from how things stand.

        `seconds`: the interval of those that have one, instead of their own.
        """
        new = {
            channel: self._new_subscriptions(channel, positions.get(channel, ()), interval)
            for channel in channels
            if channel not in self.subscriptions
        }
        slots = [slot for each in new.values() for slot in each]
        await self.broadcaster.sync_heads((slot.topic, slot.position) for slot in slots)
        for slot in slots:
            await self.broadcaster.load_snapshot(slot.channel, slot.topic)
        self.subscriptions |= new  # only now, and without a pause from here on: what is half begun is not to be read on
        for slot in slots:
            self._activate(slot)
        self._loading |= dict.fromkeys(channel for channel in new if self.broadcaster.progress(channel))
        self.send_loading()
        self.catch_up()

    def send_loading(self) -> None:
        """Say how far what it follows is loaded, where that is news: called each second."""
        if not self.live:
            return
        for channel, told in list(self._loading.items()):
            progress = self.broadcaster.progress(channel)
            if progress is None:
                del self._loading[channel]
            if told if progress is None else progress != told and (progress.expected or progress.reason):
                self.send(self.encoder.loading(channel, progress))
                self._loading |= {channel: progress} if progress else {}

    def _new_subscriptions(
        self, channel: Channel, positions: Sequence[int], seconds: float | None
    ) -> list[Subscription]:
        interval = 0 if not channel.allows_interval else channel.default_interval if seconds is None else seconds
        slots = [Subscription(self, channel, self.broadcaster.topic(name), interval) for name in channel.topics]
        for slot, place in zip(slots, positions, strict=False):
            slot.position = place
        return slots

    def _activate(self, slot: Subscription) -> None:
        if slot.position > slot.topic.known_seq:
            self.reset(slot)
        elif slot.interval or not slot.position:
            self._send_snapshot(slot, slot.topic.snapshot_seq)
        if slot.interval:
            self._start_interval(slot.interval)
        else:
            slot.topic.add(slot)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Follow them no longer."""
        for channel in channels:
            self._loading.pop(channel, None)
            for slot in self.subscriptions.pop(channel, ()):
                slot.topic.remove(slot)
        for seconds in self._interval_tasks.keys() - {
            slot.interval for slots in self.subscriptions.values() for slot in slots
        }:
            self._interval_tasks.pop(seconds).cancel()

    @property
    def cursor(self) -> str:
        """How far each log of its channels was told, in their order."""
        return ",".join([str(slot.position) for slots in self.subscriptions.values() for slot in slots])

    def send_update(self, slot: Subscription, news: EncodedUpdate) -> int:
        """Send an update. Answers how many bytes wait for the client."""
        return self.wire.write(self.encoder.update(self, slot, news))

    def send(self, data: bytes) -> None:
        """Send it, if anybody is there still."""
        self.wire.write(data)

    def heartbeat(self, second: int) -> None:
        """Let it know that it is connected."""
        if (words := self.encoder.heartbeat(second)) and self.live:
            self.send(words)

    def send_going_away(self) -> None:
        """Send it elsewhere: this replica stops."""
        self._disconnect(slow=False)

    def catch_up(self) -> None:
        """Something may have been missed: read it in the journal, then hear again."""
        if self.live and self._lagging():
            self.live = False
            self._task = asyncio.create_task(self._catch_up_loop())

    def reset(self, slot: Subscription) -> None:
        """What was told since then cannot be had: go on from how things stand."""
        self.send(self.encoder.notice("reset", [slot.channel.name], RESET_REASON))
        self._send_snapshot(slot, slot.topic.known_seq)

    def pause(self) -> None:
        """It does not read what it is sent: it is sent nothing more until it has."""
        self.live = False
        self._task = asyncio.create_task(self._wait_until_drained())

    def _lagging(self) -> list[Subscription]:
        return [s for slots in self.subscriptions.values() for s in slots if s.is_behind and not s.interval]

    async def _catch_up_loop(self) -> None:
        looks = 0
        while late := self._lagging():
            for slot in late:
                if not await self._catch_up_page(slot, last=looks > MAX_JOURNAL_POLLS):
                    looks += 1
                    await asyncio.sleep(POLL_SECONDS)
            await self._drained(MAX_BUFFERED_BYTES)
        self.live = True

    async def _catch_up_page(self, slot: Subscription, last: bool) -> bool:
        """Tell a page of what was missed; answers whether there was one. `last`: else it begins anew."""
        entries: list[JournalEntry] | None = []
        with suppress(Unavailable):
            entries = await self.broadcaster.read_after(slot.topic, slot.position) if slot.position else None
        if slot not in self.subscriptions.get(slot.channel, ()):  # it was unfollowed meanwhile
            return True
        if entries is None or (not entries and last):
            self.reset(slot)
            return True
        for entry in entries:
            slot.position = entry.seq
            if not slot.channel.key or slot.channel.key == entry.key:
                self.send_update(slot, EncodedUpdate(entry))
        return bool(entries)

    async def _wait_until_drained(self) -> None:
        if not await self.wait_drained(0):
            return
        if late := self._lagging():
            metrics.SKIPPED.inc()
            self.send(self.encoder.notice("skipped", sorted({slot.channel.name for slot in late}), SKIPPED_REASON))
        for slot in late:
            self._send_snapshot(slot, slot.topic.snapshot_seq)
        self.live = True
        self.catch_up()

    async def wait_drained(self, max_buffered: int = MAX_BUFFERED_BYTES) -> bool:
        """Wait until no more than `most` bytes wait for it; False: that took too long, and it is cut."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                await self._drained(max_buffered)
        except TimeoutError:
            metrics.CUT.inc()
            self._disconnect(slow=True)
            return False
        return True

    async def _drained(self, max_buffered: int) -> None:
        while self.wire.buffered > max_buffered:  # noqa: ASYNC110  a transport tells only its protocol
            await asyncio.sleep(POLL_SECONDS)

    def _send_snapshot(self, slot: Subscription, seq: int) -> None:
        """Say how things stand up to a number; only who has heard all of it has come that far."""
        entries = self.broadcaster.snapshot(slot.channel, slot.topic, seq)
        for left, entry in enumerate(entries, 1 - len(entries)):
            slot.position = slot.position if left else seq
            self.send(self.encoder.snapshot(self, slot, entry))
        slot.position = seq

    def _start_interval(self, seconds: float) -> None:
        if seconds not in self._interval_tasks:
            self._interval_tasks[seconds] = asyncio.create_task(self._interval_loop(seconds))

    async def _interval_loop(self, seconds: float) -> None:
        """Say how things stand, each time that the interval is over."""
        while True:
            await asyncio.sleep(seconds)
            await self._drained(MAX_BUFFERED_BYTES)
            for slot in [slot for slots in self.subscriptions.values() for slot in slots if slot.interval == seconds]:
                slot.position = slot.topic.snapshot_seq
                for entry in self.broadcaster.snapshot(slot.channel, slot.topic, slot.position):
                    self.send_update(slot, EncodedUpdate(entry))

    def _disconnect(self, slow: bool) -> None:
        """Say goodbye, and hang up soon even if nobody listens."""
        self.live = False
        self.wire.write(self.encoder.goodbye(slow))
        self.wire.close()
        asyncio.get_running_loop().call_later(CLOSE_GRACE_SECONDS, self.wire.abort)
