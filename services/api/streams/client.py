"""One client of a live stream, by any protocol. Nothing else waits for it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from services.api.streams import metrics
from services.api.streams.catch_up import CatchUp
from services.api.streams.channels import Channel
from services.api.streams.client_state import ClientEvent, ClientState, next_state
from services.api.streams.encoders import EncodedUpdate, Encoder, Goodbye
from services.api.streams.intervals import IntervalTimers
from services.api.streams.journal_reader import JournalReader
from services.api.streams.loading import LoadingProgress
from services.api.streams.output import MAX_BUFFERED_BYTES, ClientOutput
from services.api.streams.snapshots import SnapshotSource
from services.api.streams.task_feed import TaskFeed
from services.api.streams.topics import Action, Subscription, Topics
from services.core.model import SeriesProgress
from services.web import Caller, DirectWriter

DRAIN_TIMEOUT_SECONDS = 30  # in which a client must read what waits for it
CLOSE_GRACE_SECONDS = 1  # for the last bytes to be sent


class StreamSources(NamedTuple):
    """What all clients of a replica share."""

    topics: "Topics[StreamClient]"
    journal: JournalReader
    snapshots: SnapshotSource
    loading: LoadingProgress
    tasks: TaskFeed


class StreamClient:
    """A client with its state: `_apply` alone changes it, by the table in client_state.py."""

    __slots__ = ("_catch_up", "_intervals", "_loading", "_sources", "_task", "caller", "output", "state")

    def __init__(
        self, sources: StreamSources, writer: DirectWriter, encoder: Encoder, caller: Caller | None = None
    ) -> None:
        self.state, self.caller = ClientState.SYNCING, caller
        self._sources = sources
        self.output = ClientOutput(writer, encoder, sources.snapshots)
        self._catch_up = CatchUp(self.output, sources.journal)
        self._intervals = IntervalTimers(self.output)
        self._loading: dict[Channel, SeriesProgress | None] = {}  # incomplete series, with what was sent of each
        self._task: asyncio.Task[None] | None = None  # of the states CATCHING_UP and SLOW

    def _apply(self, event: ClientEvent) -> bool:
        """Return whether the event has changed the state."""
        before, self.state = self.state, next_state(self.state, event)
        return self.state is not before

    @property
    def person(self) -> str | None:
        """The id of the person, None for an anonymous client."""
        return self.caller.person if self.caller else None

    @property
    def channel_names(self) -> Set[str]:
        """Names of its subscriptions."""
        return self.output.subscriptions.keys()

    def send(self, data: bytes) -> None:
        """Send encoded bytes of its protocol."""
        self.output.send(data)

    async def subscribe(
        self, channels: Iterable[Channel], positions: Mapping[Channel, Sequence[int]], interval: float | None = None
    ) -> None:
        """Send channels from now on: each topic from its position on, or from a snapshot.

        `interval` in seconds, for channels that allow one; None: each channel's own.
        """
        added = {
            shared: self._new_subscriptions(shared, positions.get(channel, ()), interval)
            for channel in channels
            if channel.name not in self.output.subscriptions
            for shared in [self._sources.topics.acquire(channel)]
        }
        subscriptions = [subscription for group in added.values() for subscription in group]
        try:
            await self._sources.journal.sync_heads((each.topic, each.position) for each in subscriptions)
            for subscription in subscriptions:
                await self._sources.snapshots.load(subscription.channel, subscription.topic)
        except BaseException:
            for channel in added:
                self._sources.topics.release(channel)
            raise
        # No await from here on: a catch-up that runs already must not see a subscription before its snapshot.
        self.output.subscriptions |= {channel.name: group for channel, group in added.items()}
        for subscription in subscriptions:
            self._activate(subscription)
        for channel in added:
            if channel.scope and self.person:
                self._sources.tasks.add(self.person, self.output, channel)
        self._apply(ClientEvent.SUBSCRIBED)
        self._loading |= dict.fromkeys(channel for channel in added if self._sources.loading.progress(channel))
        self.send_loading()
        self.catch_up()

    def _new_subscriptions(
        self, channel: Channel, positions: Sequence[int], interval: float | None
    ) -> "list[Subscription[StreamClient]]":
        interval = 0 if not channel.allows_interval else channel.default_interval if interval is None else interval
        topics = map(self._sources.topics.get, channel.topics)
        return [
            Subscription(self, channel, topic, interval, position)
            for topic, position in zip(topics, positions or [0] * len(channel.topics), strict=True)
        ]

    def _activate(self, subscription: "Subscription[StreamClient]") -> None:
        if subscription.position > subscription.topic.known_seq:
            self.output.send_reset(subscription)
        elif subscription.interval or not subscription.position:
            self.output.send_snapshot(subscription, subscription.topic.snapshot_seq)
        if subscription.interval:
            self._intervals.start(subscription.interval)
        else:
            subscription.topic.add(subscription)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Send these channels no longer."""
        for name in names:
            group = self.output.subscriptions.pop(name, None)
            if group is None:
                continue
            for subscription in group:
                subscription.topic.remove(subscription)
            channel = self._sources.topics.channels[name]
            if channel.scope and self.person:
                self._sources.tasks.remove(self.person, self.output)
            self._loading.pop(channel, None)
            self._sources.topics.release(channel)
        self._intervals.stop_unused()

    def on_entry(self, subscription: "Subscription[StreamClient]", update: EncodedUpdate) -> None:
        """Send an entry of the bus. In any state but LIVE it is left to the journal."""
        if self.state is not ClientState.LIVE:
            return
        action = subscription.on_entry(update.entry)
        if action is Action.DELIVER:
            if self.output.send_update(subscription, update) > MAX_BUFFERED_BYTES:
                self._pause()
        elif action is Action.CATCH_UP:
            self.catch_up()
        elif action is Action.RESET:
            self.output.send_reset(subscription)

    def catch_up(self) -> None:
        """Send from the journal what is missing, if anything is."""
        if self.output.lagging and self._apply(ClientEvent.ENTRIES_MISSING):
            self._task = asyncio.create_task(self._catch_up_and_go_live())

    async def _catch_up_and_go_live(self) -> None:
        await self._catch_up.run()
        self._apply(ClientEvent.CAUGHT_UP)

    def _pause(self) -> None:
        """Send nothing until the client has read everything."""
        if self._apply(ClientEvent.BUFFER_FULL):
            self._task = asyncio.create_task(self._skip_and_catch_up())

    async def _skip_and_catch_up(self) -> None:
        if not await self.wait_drained(0):
            return
        if lagging := self.output.lagging:
            metrics.SKIPPED.inc()
            self.output.send_skipped(lagging)
        self._apply(ClientEvent.DRAINED)
        await self._catch_up_and_go_live()

    async def wait_drained(self, max_buffered: int = MAX_BUFFERED_BYTES) -> bool:
        """Wait until the client has read; disconnect it and return False if that takes too long."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                await self.output.drained(max_buffered)
        except TimeoutError:
            metrics.CUT.inc()
            self._disconnect(Goodbye.TOO_SLOW)
            return False
        return True

    def send_loading(self) -> None:
        """Send how much of incomplete series is loaded, where that has changed. Called once a second."""
        if self.state is not ClientState.LIVE:
            return
        for channel, sent in list(self._loading.items()):
            progress = self._sources.loading.progress(channel)
            if progress is None:
                del self._loading[channel]
                news = sent is not None  # its end, if its beginning was sent
            else:
                news = progress != sent and bool(progress.expected or progress.reason)
            if news:
                self.output.send(self.output.encoder.loading(channel, progress))
            if news and progress:
                self._loading[channel] = progress

    def heartbeat(self, second: int) -> None:
        """Send what shows the client that it is connected, if any is due at this second. Called once a second."""
        if self.state in (ClientState.SYNCING, ClientState.LIVE) and (data := self.output.encoder.heartbeat(second)):
            self.output.send(data)

    def send_going_away(self) -> None:
        """Send the client to another replica, because this one stops."""
        self._disconnect(Goodbye.RESTART)

    def send_signed_out(self) -> None:
        """End the connection of a person whose sign-in or API token has ended."""
        self._disconnect(Goodbye.SIGNED_OUT)

    def _disconnect(self, why: Goodbye) -> None:
        """Send a goodbye and hang up soon, read or not."""
        if not self._apply(ClientEvent.DISCONNECTED):
            return
        writer = self.output.writer
        writer.write(self.output.encoder.goodbye(why))
        writer.close()
        asyncio.get_running_loop().call_later(CLOSE_GRACE_SECONDS, writer.abort)

    def close(self) -> None:
        """Free everything, after the connection is over."""
        self._apply(ClientEvent.DISCONNECTED)
        self.unsubscribe(list(self.output.subscriptions))
        if self._task:
            self._task.cancel()
