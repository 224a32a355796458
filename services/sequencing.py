"""Telling everyone: what a service says gets its place in its log, and goes to the journal and over the bus."""

import asyncio
import logging
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from services.core.errors import Unavailable
from services.core.journal import Entry, entered, log_of, told
from services.core.markets import next_number
from services.core.model import Candle, Message, Place, Placed, Reading
from services.log_throttle import Complaints
from services.ports import Bus, Clock, Deps, Journal

READINGS = 4  # of one indicator that are remembered: the newest candles', which alone change
REMEMBERED = 50_000  # logs: indicators are watched by any parameters, one after the other
AWAY = "who reads on later may have to begin anew: %s"
log = logging.getLogger(__name__)


class Teller:
    """Speaks for one process, the only one that writes to its logs."""

    def __init__(self, deps: Deps) -> None:
        self._bus: Bus = deps.bus
        self._journal: Journal = deps.journal
        self._clock: Clock = deps.clock
        self._market = deps.hub.market
        self._last: dict[str, int] = {}  # the last number of each log
        self._said: dict[str, dict[str, str]] = {}  # by log and key
        self._unkept: list[Entry] = []  # said, but not in the journal yet
        self.behind = asyncio.Event()  # whether there is any
        self._complaints = Complaints(log)

    def follow(self, log: str) -> None:
        """Somebody follows this log of ours: the journal keeps more of it."""
        self._journal.follow(log)

    def forget(self, log: str) -> None:
        """Nothing more is told in this log for now."""
        self._last.pop(log, None)
        self._said.pop(log, None)

    async def tell(self, *messages: Message) -> None:
        """Tell all of them. Raises Unavailable when the bus does not take them; a journal that is away is passed over.

        What says nothing new to those who follow has no place: it only renews an age, and a reading has none.
        """
        placed = await self._all_placed(messages)
        for outcome in await asyncio.gather(self._bus.publish(*placed), self.keep(), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def say(self, *messages: Message) -> None:
        """Tell them over the bus alone, for who has no time to lose: `keep` is to be called whenever it is `behind`."""
        await self._bus.publish(*await self._all_placed(messages))

    async def keep(self) -> None:
        """Have the journal know what was said. Not to be called twice at once: it is kept in its order."""
        entries, self._unkept = self._unkept, []
        self.behind.clear()
        try:
            await self._journal.append(*entries)
        except Unavailable as error:
            self._complaints.say(AWAY, error)

    async def _all_placed(self, messages: Sequence[Message]) -> list[Message]:
        await self._begin({log_of(message) for message in messages if isinstance(message, Placed)})
        placed = [self._placed(each) if isinstance(each, Placed) else each for each in messages]
        return [each for each in placed if not isinstance(each, Reading) or each.place]

    async def _begin(self, logs: Collection[str]) -> None:
        """Go on behind what a predecessor has said."""
        known = {name: self._last.pop(name) for name in logs if name in self._last}
        self._last |= known  # behind those that were not told for longer
        if new := [name for name in logs if name not in known]:
            last: Sequence[Entry | None] = await self._newest(new)
            self._last |= {name: entry.number if entry else 0 for name, entry in zip(new, last, strict=True)}
            self._said |= {entry.log: {entry.key: entry.data} for entry in last if entry}
        while len(self._last) > REMEMBERED + len(known) + len(new):
            oldest = next(iter(self._last))
            del self._last[oldest]
            self._said.pop(oldest, None)

    async def _newest(self, logs: Sequence[str]) -> Sequence[Entry | None]:
        try:
            return await self._journal.newest(*logs)
        except Unavailable as error:
            self._complaints.say(AWAY, error)
            return [None] * len(logs)

    def _placed(self, message: Placed) -> Placed:
        name, (key, said) = log_of(message), told(message)
        if not isinstance(message, Candle):  # of which only changes are told
            known = self._said.setdefault(name, {})
            if known.get(key) == said:
                return message
            if isinstance(message, Reading) and len(known) >= READINGS:
                known.clear()
            known[key] = said
        previous, now = self._last[name], self._clock.now()
        place = Place(next_number(now, previous, self._market), previous)
        self._last[name] = place.number
        published = {"published": now} if isinstance(message, Candle | Reading) else {}
        placed = replace(message, place=place, **published)
        self._unkept.append(entered(placed, place))
        self.behind.set()
        return placed
