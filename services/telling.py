"""Telling everyone: what a service says gets its place in its log, and goes to the journal and over the bus."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from services.core.errors import Unavailable
from services.core.exchange import Limit
from services.core.journal import Entry, entered, log_of, told
from services.core.model import Candle, Message, Place, Placed
from services.core.window import Window
from services.ports import Bus, Clock, Deps, Journal

COMPLAINTS = Limit(2, 60)  # lines of the log on a journal that is away
log = logging.getLogger(__name__)


class Teller:
    """Speaks for one process, the only one that writes to its logs."""

    def __init__(self, deps: Deps) -> None:
        self._bus: Bus = deps.bus
        self._journal: Journal = deps.journal
        self._clock: Clock = deps.clock
        self._last: dict[str, int] = {}  # the last number of each log
        self._said: dict[tuple[str, str], str] = {}
        self._complaints = Window(COMPLAINTS)

    async def tell(self, *messages: Message) -> None:
        """Tell all of them. Raises Unavailable when the bus does not take them; a journal that is away is passed over.

        What says nothing new to those who follow has no place: it only renews an age.
        """
        await self._begin({log_of(message) for message in messages if isinstance(message, Placed)})
        entries = list[Entry]()
        placed = [self._placed(each, entries) if isinstance(each, Placed) else each for each in messages]
        for outcome in await asyncio.gather(self._append(entries), self._bus.publish(*placed), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _begin(self, logs: Iterable[str]) -> None:
        """Go on behind what a predecessor has said."""
        if new := [name for name in logs if name not in self._last]:
            last: Sequence[Entry | None] = await self._newest(new)
            self._last |= {name: entry.number if entry else 0 for name, entry in zip(new, last, strict=True)}
            self._said |= {(entry.log, entry.key): entry.data for entry in last if entry}

    async def _newest(self, logs: Sequence[str]) -> Sequence[Entry | None]:
        try:
            return await self._journal.newest(*logs)
        except Unavailable as error:
            self._complain(error)
            return [None] * len(logs)

    def _placed(self, message: Placed, entries: list[Entry]) -> Placed:
        name, (key, said) = log_of(message), told(message)
        if not isinstance(message, Candle):  # of which only changes are told
            if self._said.get((name, key)) == said:
                return message
            self._said[name, key] = said
        previous = self._last[name]
        place = Place(max(self._clock.now() * 1000, previous + 1), previous)
        self._last[name] = place.number
        entries.append(entered(message, place))
        return replace(message, place=place)

    async def _append(self, entries: Sequence[Entry]) -> None:
        try:
            await self._journal.append(*entries)
        except Unavailable as error:
            self._complain(error)

    def _complain(self, error: Unavailable) -> None:
        now = asyncio.get_running_loop().time()
        if not self._complaints.wait(now):
            self._complaints.note(now)
            log.warning("who reads on later may have to begin anew: %s", error)
