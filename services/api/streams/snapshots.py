"""The current values of channels."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from services.api.candles.served_candles import FORMING_GRACE_MS, ServedCandles
from services.api.streams.channels import Channel
from services.api.streams.topics import TopicState, open_time
from services.core.errors import Unavailable
from services.core.journal import JournalEntry, to_entry
from services.core.model import Candle, IndicatorValue, Position, Sequenced, Series
from services.hub import Hub
from services.ports import Clock
from services.web import SingleFlight


class SnapshotSource:
    """Current values from memory: of series from their topics, of everything else from the hub."""

    def __init__(self, hub: Hub, clock: Clock, candles: ServedCandles) -> None:
        self._hub, self._clock, self._candles = hub, clock, candles
        self._loads: SingleFlight[Series, Sequence[Candle]] = SingleFlight()

    async def load(self, channel: Channel, topic: TopicState[Any]) -> None:
        """Load the latest candle of a series that neither bus nor journal has brought, if the store has one."""
        if channel.series and not channel.indicator and topic.latest is None and topic.last_entry is None:
            with suppress(Unavailable):
                latest = await self._loads.run(channel.series, self._load_latest)
                topic.latest = topic.latest or next(iter(latest), None)

    def entries(self, channel: Channel, topic: TopicState[Any], seq: int) -> list[JournalEntry]:
        """Return the current values in memory as entries at `seq`."""
        if channel.series and topic.latest is None:
            return [replace(topic.last_entry, seq=seq)] if topic.last_entry else []
        position, now = Position(seq, seq), self._clock.now()
        return [to_entry(message, position, now) for message in self._messages(channel, topic)]

    def _messages(self, channel: Channel, topic: TopicState[Any]) -> list[Sequenced]:
        if channel.series:
            return [topic.latest] if topic.latest and not self._ended_unclosed(topic.latest, topic) else []
        return [*self._hub.latest_messages(topic.name, channel.key)]

    def _ended_unclosed(self, message: Candle | IndicatorValue, topic: TopicState[Any]) -> bool:
        """Return whether the candle's time is over, but it was not closed and does not change: it is incomplete."""
        if message.closed or self._clock.monotonic() - (topic.received_at or 0) < FORMING_GRACE_MS:
            return False
        return open_time(message) < self._candles.forming_since(message.series)

    async def _load_latest(self, series: Series) -> Sequence[Candle]:
        return await self._candles.latest(series, self._clock.now(), 1)
