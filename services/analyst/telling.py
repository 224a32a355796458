"""Telling everyone what indicators say, when they say something else than before."""

import asyncio
import logging
from collections.abc import Iterable

from services.core.errors import Unavailable
from services.core.exchange import Limit
from services.core.model import Reading, Series
from services.core.window import Window
from services.ports import Bus

COMPLAINTS = Limit(2, 60)  # lines of the log on a bus that is away
log = logging.getLogger(__name__)


class Teller:
    """Remembers the newest reading of each indicator, so that nothing is told twice."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._complaints = bus, Window(COMPLAINTS)
        self._told: dict[tuple[Series, str], Reading] = {}

    async def tell(self, readings: Iterable[Reading]) -> None:
        """Publish what is news. A bus that is away misses it: what counts is the newest."""
        news = [reading for reading in readings if self._told.get(_key(reading)) != reading]
        self._told |= {_key(reading): reading for reading in news}
        try:
            await self._bus.publish(*news)
        except Unavailable as error:
            now = asyncio.get_running_loop().time()
            if not self._complaints.wait(now):
                self._complaints.note(now)
                log.warning("%d readings are not told: %s", len(news), error)


def _key(reading: Reading) -> tuple[Series, str]:
    return reading.series, reading.indicator
