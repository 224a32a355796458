"""Requests to other services for what channels in use need."""

from collections.abc import Iterable
from contextlib import suppress

from services.api.backfill_status import BackfillStatus
from services.api.streams.channels import Channel
from services.core.errors import Unavailable
from services.core.model import IndicatorRequest
from services.core.timeframes import TIMEFRAMES
from services.ports import Bus, Clock

INDICATOR_REQUEST_TTL_MS = 30_000  # maintenance requests them again in a third of it
PRIORITY_BACKFILL_CANDLES = 1_000  # newest candles of a series in use, which collectors fetch before others


class ChannelDemand:
    """Requests indicator values of the analyst, and missing candles of the collectors."""

    def __init__(self, bus: Bus, clock: Clock, backfill: BackfillStatus) -> None:
        self._bus, self._clock, self._backfill = bus, clock, backfill

    async def request(self, channels: Iterable[Channel]) -> None:
        """Request what these channels need. What the bus does not take is requested again soon."""
        channels = list(channels)
        await self._request_indicators(channels)
        await self._request_candles(channels)

    async def _request_indicators(self, channels: Iterable[Channel]) -> None:
        until = self._clock.now() + INDICATOR_REQUEST_TTL_MS
        wanted = {(channel.series, channel.indicator) for channel in channels if channel.series and channel.indicator}
        with suppress(Unavailable):
            await self._bus.publish(*(IndicatorRequest(*each, until) for each in sorted(wanted)))

    async def _request_candles(self, channels: Iterable[Channel]) -> None:
        now = self._clock.now()
        for series in {channel.series for channel in channels if channel.series}:
            timeframe = TIMEFRAMES[series.timeframe]
            since = timeframe.step_back(timeframe.open_time(now), PRIORITY_BACKFILL_CANDLES)
            await self._backfill.request(series, since, now)
