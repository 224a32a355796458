"""Sends what the bus brings to all clients that have subscribed to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.api.streams import metrics
from services.api.streams.client import StreamClient, StreamSources
from services.api.streams.encoders import EncodedUpdate, Encoder
from services.core.journal import to_entry, topic_of
from services.core.model import Position, Sequenced
from services.ports import Clock
from services.web import Caller, DirectWriter


class Broadcaster:
    """The clients of this replica. Composition connects `on_message` and `close` to the hub."""

    def __init__(self, sources: StreamSources, clock: Clock) -> None:
        self._sources, self._clock = sources, clock
        self.clients: dict[StreamClient, None] = {}
        self.closed = False

    @contextmanager
    def connect(self, writer: DirectWriter, encoder: Encoder, caller: Caller | None = None) -> Iterator[StreamClient]:
        """Serve a client until the block ends. `caller`: the person whose token or ticket it has shown."""
        client = StreamClient(self._sources, writer, encoder, caller)
        self.clients[client] = None
        metrics.CLIENTS.labels(encoder.name).inc()
        try:
            yield client
        finally:
            client.close()
            del self.clients[client]
            metrics.CLIENTS.labels(encoder.name).dec()

    def on_message(self, message: Sequenced) -> None:
        """Update the message's topic and send it to its subscriptions.

        The journal's entry is made here again: the bus carries the message, which the hub needs, not the entry.
        """
        topic = self._sources.topics.get(topic_of(message))
        topic.on_message(message, self._clock.monotonic())
        position = message.position or Position(0, 0)
        if not topic.has_subscriptions:
            topic.on_position(position)
            return
        entry = to_entry(message, position)
        update = EncodedUpdate(entry)
        for subscription in topic.on_entry(entry):
            subscription.receiver.on_entry(subscription, update)

    def close(self) -> None:
        """Send all clients to another replica."""
        self.closed = True
        for client in list(self.clients):
            client.send_going_away()
