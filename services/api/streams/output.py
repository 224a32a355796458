"""Everything that one client is sent, and how much of it waits unread."""

import asyncio
from collections.abc import Sequence
from typing import Any

from services.api.streams.encoders import EncodedUpdate, Encoder
from services.api.streams.snapshots import SnapshotSource
from services.api.streams.topics import Subscription
from services.web import DirectWriter

MAX_BUFFERED_BYTES = 64 * 1024  # unread bytes up to which a client gets each entry
POLL_SECONDS = 0.05  # between two checks of what is unread
RESET_REASON = "messages after the requested position are no longer retained"
SKIPPED_REASON = "client read too slowly: intermediate updates were skipped"


class ClientOutput:
    """A client's subscriptions, by channel name in the order of subscribing, and its connection."""

    __slots__ = ("_snapshots", "encoder", "subscriptions", "writer")

    def __init__(self, writer: DirectWriter, encoder: Encoder, snapshots: SnapshotSource) -> None:
        self.writer, self.encoder, self._snapshots = writer, encoder, snapshots
        self.subscriptions: dict[str, list[Subscription[Any]]] = {}

    @property
    def all_subscriptions(self) -> list[Subscription[Any]]:
        """Those of all channels."""
        return [subscription for group in self.subscriptions.values() for subscription in group]

    @property
    def lagging(self) -> list[Subscription[Any]]:
        """Subscriptions without an interval whose topic has entries that the client lacks."""
        return [each for each in self.all_subscriptions if each.is_behind and not each.interval]

    def has(self, subscription: Subscription[Any]) -> bool:
        """Return whether the client still has it."""
        return subscription in self.subscriptions.get(subscription.channel.name, ())

    def send(self, data: bytes) -> None:
        """Send encoded bytes. On a broken connection they are dropped."""
        self.writer.write(data)

    def send_update(self, subscription: Subscription[Any], update: EncodedUpdate) -> int:
        """Send an entry; return how many bytes wait unread."""
        return self.writer.write(self.encoder.update(subscription, update, self.subscriptions))

    def send_snapshot(self, subscription: Subscription[Any], seq: int) -> None:
        """Send the current values up to `seq`.

        The position advances with the last one only, so that a client cut off in between resumes before the snapshot.
        """
        entries = self._snapshots.entries(subscription.channel, subscription.topic, seq)
        for left, entry in enumerate(entries, 1 - len(entries)):
            if not left:
                subscription.position = seq
            self.send(self.encoder.snapshot(subscription, entry, self.subscriptions))
        subscription.position = seq

    def send_current(self, subscription: Subscription[Any]) -> None:
        """Send the current values as updates, as at an interval."""
        subscription.position = subscription.topic.snapshot_seq
        for entry in self._snapshots.entries(subscription.channel, subscription.topic, subscription.position):
            self.send_update(subscription, EncodedUpdate(entry))

    def send_reset(self, subscription: Subscription[Any]) -> None:
        """Send that the topic cannot be continued, and a new snapshot."""
        self.send(self.encoder.notice("reset", [subscription.channel.name], RESET_REASON))
        self.send_snapshot(subscription, subscription.topic.known_seq)

    def send_skipped(self, subscriptions: Sequence[Subscription[Any]]) -> None:
        """Send that entries of these were left out, and new snapshots."""
        names = sorted({subscription.channel.name for subscription in subscriptions})
        self.send(self.encoder.notice("skipped", names, SKIPPED_REASON))
        for subscription in subscriptions:
            self.send_snapshot(subscription, subscription.topic.snapshot_seq)

    async def drained(self, max_buffered: int) -> None:
        """Wait until no more than so many bytes are unread."""
        while self.writer.buffered > max_buffered:  # noqa: ASYNC110  a transport calls only its protocol
            await asyncio.sleep(POLL_SECONDS)
