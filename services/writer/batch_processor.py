"""What the writer knows and changes: a batch of messages becomes what is to be saved, all or nothing."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter

from services.core.candles import of_kline
from services.core.dead_letters import DeadLetter
from services.core.minute_builder import Cursor, Minutes
from services.core.model import Candle, Feed, Gap, Hole, HoleState, Kline, Message, Series, State, Trade
from services.core.seals import Seal
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer import rollup
from services.writer.candle_cache import Shelf
from services.writer.gap_registry import Holes
from services.writer.sealing import Sealing

log = logging.getLogger(__name__)
Item = Candle | Cursor | Hole | Seal | Gap | DeadLetter
_source = attrgetter("exchange", "instrument")
LAG = 3_000  # ms after its end before a minute is closed for want of trades


class Book:
    """All candles of all series. What a method answers is to be saved before the next is called, and then `saved`.

    When that fails, or a method raises Unavailable, the book is of no more use: a new one knows what is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._shelf, self._holes = store, Shelf(store), Holes()
        self._sealing = Sealing(store, self._shelf, self._holes)
        self._minutes: dict[Series, Minutes] = {}
        self.repeated: set[tuple[Series, int]] = set()  # what the last messages taken in said that was kept already
        self._traded: dict[str, int] = {}  # by exchange: its time of the newest trade that is built in

    async def load(self) -> None:
        """Begin with what is kept."""
        for cursor in await self._store.cursors():
            last = await self._shelf.newest(cursor.series)
            self._minutes[cursor.series] = Minutes(cursor.series, cursor, last)
        await self._holes.load(self._store)

    def recent(self) -> set[tuple[Series, int]]:
        """The last two candles of every series that trades build."""
        return {
            (series._replace(timeframe=name), opening)
            for series, minutes in self._minutes.items()
            for name, frame in TIMEFRAMES.items()
            if (cursor := minutes.cursor)
            for opening in (frame.opening(cursor.time), frame.back(frame.opening(cursor.time), 1))
        }

    async def kept(self, keys: Iterable[tuple[Series, int]]) -> list[Candle]:
        """These candles, as far as there are such, by series and opening."""
        found = []
        for series, some in groupby(sorted(keys), itemgetter(0)):
            openings = [opening for _, opening in some]
            await self._shelf.need(series, openings)
            found += [candle for opening in openings if (candle := self._shelf.get(series, opening))]
        return found

    async def take(self, messages: Sequence[Message], now: int) -> list[Item]:
        """What a batch changes."""
        trades = [message for message in messages if isinstance(message, Trade)]
        traded, built = set[Series](), dict[tuple[Series, int], Candle]()
        for (exchange, instrument), some in groupby(trades, _source):
            series, run = Series(exchange, instrument, "1m"), list(some)
            traded.add(series)
            self._traded[exchange] = run[-1].time
            for candle in (await self._built(series)).take(run):
                built[series, candle.bar.timestamp] = candle
        klines = [of_kline(message) for message in messages if isinstance(message, Kline)]
        await rollup.keep(self._shelf, [*built.values(), *klines], now)
        known = (kline for kline in klines if (kline.series, kline.bar.timestamp) not in self._shelf.changed)
        self.repeated = {key for kline in known for key in _around(kline.series, kline.bar.timestamp)}
        holes = self._holes.heard(message for message in messages if isinstance(message, Hole))
        self._sealing.lacking(hole for hole in holes if hole.state is HoleState.ABSENT)
        gaps = [message for message in messages if isinstance(message, Gap)]
        cursors = [cursor for series in traded if (cursor := self._minutes[series].cursor)]
        return [*gaps, *cursors, *await self._changes(holes, now)]

    async def quiet(self, states: Mapping[str, State], drained: bool, now: int) -> list[Item]:
        """What time alone changes: minutes end without a trade. `drained`: no message is waiting to be taken."""
        built = [
            candle
            for series, minutes in self._minutes.items()
            for candle in minutes.quiet(self._silent_until(series, states.get(series.exchange), drained))
        ]
        await rollup.keep(self._shelf, built, now)
        return await self._changes((), now)

    async def days(self, series: Series, first: int, last: int, now: int) -> list[Item]:
        """Seals of the days of a series that have become complete. `first` and `last` are the ends of what is kept."""
        return [*await self._sealing.due(series, first, last, now)]

    async def delete_future(self, series: Series, since: int) -> None:
        """Delete candles that open when it is not yet time for them: some clock, or a message, was wrong once."""
        count = await self._store.delete_candles(series, since)
        log.warning("%s %s %s: %d candles of the future are deleted", *series, count)
        self._shelf.forget(series)
        self._holes.forget(series, since)
        self._sealing.forget(series)
        minutes = self._minutes.get(series)
        if minutes and minutes.cursor and minutes.cursor.time >= since:
            self._minutes[series] = Minutes(series, None, await self._shelf.newest(series))

    def saved(self, items: Iterable[Item]) -> None:
        """All of it is kept."""
        self.repeated = set()
        self._shelf.saved()
        self._sealing.kept(item for item in items if isinstance(item, Seal))

    async def _built(self, series: Series) -> Minutes:
        if series not in self._minutes:
            self._minutes[series] = Minutes(series, None, await self._shelf.newest(series))
        return self._minutes[series]

    async def _changes(self, noticed: Sequence[Hole], now: int) -> list[Item]:
        settled = await self._holes.settled(self._shelf, noticed, now)
        holes = {(hole.series, hole.since, hole.until): hole for hole in (*noticed, *settled)}
        return [*self._shelf.changed.values(), *holes.values(), *await self._sealing.corrected(now)]

    def _silent_until(self, series: Series, state: State | None, drained: bool) -> int:
        """Up to when it is certain that no trade is on its way: the feed lives, and what it gave has been built in.

        By the exchange's clock, as minutes are: that of a collector, or ours, may be any time ahead of it.
        """
        sources = state.sources if state and state.transport == "socket" else ()
        source = next((source for source in sources if source.instrument == series.instrument), None)
        if source is None or source.feed is not Feed.LIVE or source.confirmed is None:
            return 0
        if state is None or state.clock_offset is None:
            return 0
        confirmed = source.confirmed + state.clock_offset
        return (confirmed if drained else min(confirmed, self._traded.get(series.exchange, 0))) - LAG


def _around(series: Series, opening: int) -> Iterator[tuple[Series, int]]:
    """A candle, and the longer ones that hold it."""
    names = list(TIMEFRAMES)
    for name in names[names.index(series.timeframe) :]:
        yield series._replace(timeframe=name), TIMEFRAMES[name].opening(opening)
