"""What a replica does for its streams once a second."""

import asyncio
import logging
from itertools import count

from services.api.streams.broadcaster import Broadcaster
from services.api.streams.client import StreamSources
from services.api.streams.demand import ChannelDemand
from services.core.errors import Unavailable
from services.ports import Clock

INTERVAL_SECONDS = 1
DEMAND_SECONDS = 10  # between two requests for what channels in use need
log = logging.getLogger(__name__)


class Maintenance:
    """Finds entries that the bus has lost, repeats requests, drops idle topics, and sends heartbeats."""

    def __init__(self, broadcaster: Broadcaster, sources: StreamSources, demand: ChannelDemand, clock: Clock) -> None:
        self._broadcaster, self._sources, self._demand, self._clock = broadcaster, sources, demand, clock

    async def run(self) -> None:
        """Run as a job of the service."""
        for second in count():
            await asyncio.sleep(INTERVAL_SECONDS)
            await self._find_lost_entries()
            if second % DEMAND_SECONDS == 0:
                self._sources.topics.drop_idle(self._clock.monotonic())
                await self._demand.request(self._sources.topics.channels.values())
            self._sources.loading.refresh()
            for client in list(self._broadcaster.clients):
                client.heartbeat(second)
                client.send_loading()

    async def _find_lost_entries(self) -> None:
        try:
            topics = await self._sources.journal.scan(self._sources.topics.with_subscriptions)
        except Unavailable as error:
            log.debug("streams: journal not scanned, next try in a second: %s", error)
            return
        for topic in topics:
            for subscription in topic.subscriptions:
                subscription.receiver.catch_up()
