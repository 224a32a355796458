"""What the writer knows and changes: a batch of messages becomes what is to be saved, all or nothing."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter

from services.core.candles import from_kline
from services.core.dead_letters import DeadLetter
from services.core.minute_builder import MinuteBuilder, TradeCursor
from services.core.model import (
    Candle,
    CandleGap,
    CandleGapState,
    ExchangeStatus,
    FeedGap,
    FeedStatus,
    Kline,
    Message,
    Series,
    Trade,
)
from services.core.seals import Seal
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer import rollup
from services.writer.candle_cache import CandleCache
from services.writer.gap_registry import GapRegistry
from services.writer.sealing import Sealer

log = logging.getLogger(__name__)
Change = Candle | TradeCursor | CandleGap | Seal | FeedGap | DeadLetter
_exchange_and_instrument = attrgetter("exchange", "instrument")
IDLE_LAG_MS = 3_000  # ms after its end before a minute is closed for want of trades


class BatchProcessor:
    """All candles of all series. What a method answers is to be saved before the next is called, and then `saved`.

    When that fails, or a method raises Unavailable, the book is of no more use: a new one knows what is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._candles, self._gaps = store, CandleCache(store), GapRegistry()
        self._sealer = Sealer(store, self._candles, self._gaps)
        self._minute_builders: dict[Series, MinuteBuilder] = {}
        self.redelivered: set[tuple[Series, int]] = set()  # what the last messages taken in said that was kept already
        self._last_trade_time: dict[str, int] = {}  # by exchange: its time of the newest trade that is built in

    async def load(self) -> None:
        """Begin with what is kept."""
        for cursor in await self._store.cursors():
            last = await self._candles.newest(cursor.series)
            self._minute_builders[cursor.series] = MinuteBuilder(cursor.series, cursor, last)
        await self._gaps.load(self._store)

    def last_two_candles(self) -> set[tuple[Series, int]]:
        """The last two candles of every series that trades build."""
        return {
            (series._replace(timeframe=name), opening)
            for series, minutes in self._minute_builders.items()
            for name, frame in TIMEFRAMES.items()
            if (cursor := minutes.cursor)
            for opening in (frame.open_time(cursor.time), frame.step_back(frame.open_time(cursor.time), 1))
        }

    async def current_candles(self, keys: Iterable[tuple[Series, int]]) -> list[Candle]:
        """These candles, as far as there are such, by series and opening."""
        found = []
        for series, some in groupby(sorted(keys), itemgetter(0)):
            openings = [opening for _, opening in some]
            await self._candles.load(series, openings)
            found += [candle for opening in openings if (candle := self._candles.get(series, opening))]
        return found

    async def apply(self, messages: Sequence[Message], now: int) -> list[Change]:
        """What a batch changes."""
        trades = [message for message in messages if isinstance(message, Trade)]
        traded, built = set[Series](), dict[tuple[Series, int], Candle]()
        for (exchange, instrument), some in groupby(trades, _exchange_and_instrument):
            series, run = Series(exchange, instrument, "1m"), list(some)
            traded.add(series)
            self._last_trade_time[exchange] = run[-1].time
            for candle in (await self._minute_builder(series)).add_trades(run):
                built[series, candle.bar.open_time] = candle
        klines = [from_kline(message) for message in messages if isinstance(message, Kline)]
        await rollup.apply_and_roll_up(self._candles, [*built.values(), *klines], now)
        known = (kline for kline in klines if (kline.series, kline.bar.open_time) not in self._candles.dirty)
        self.redelivered = {key for kline in known for key in _candle_and_parents(kline.series, kline.bar.open_time)}
        holes = self._gaps.register(message for message in messages if isinstance(message, CandleGap))
        self._sealer.on_absent_gaps(hole for hole in holes if hole.state is CandleGapState.ABSENT)
        gaps = [message for message in messages if isinstance(message, FeedGap)]
        cursors = [cursor for series in traded if (cursor := self._minute_builders[series].cursor)]
        return [*gaps, *cursors, *await self._collect_changes(holes, now)]

    async def close_idle_minutes(
        self, statuses: Mapping[str, ExchangeStatus], queue_idle: bool, now: int
    ) -> list[Change]:
        """What time alone changes: minutes end without a trade. `drained`: no message is waiting to be taken."""
        built = [
            candle
            for series, minutes in self._minute_builders.items()
            for candle in minutes.close_idle(self._idle_until(series, statuses.get(series.exchange), queue_idle))
        ]
        await rollup.apply_and_roll_up(self._candles, built, now)
        return await self._collect_changes((), now)

    async def seal_days(self, series: Series, first: int, last: int, now: int) -> list[Change]:
        """Seals of the days of a series that have become complete. `first` and `last` are the ends of what is kept."""
        return [*await self._sealer.seal_complete_days(series, first, last, now)]

    async def delete_future_candles(self, series: Series, since: int) -> None:
        """Delete candles that open when it is not yet time for them: some clock, or a message, was wrong once."""
        count = await self._store.delete_candles(series, since)
        log.warning("%s %s %s: %d candles of the future are deleted", *series, count)
        self._candles.forget(series)
        self._gaps.discard_from(series, since)
        self._sealer.forget(series)
        minutes = self._minute_builders.get(series)
        if minutes and minutes.cursor and minutes.cursor.time >= since:
            self._minute_builders[series] = MinuteBuilder(series, None, await self._candles.newest(series))

    def on_saved(self, changes: Iterable[Change]) -> None:
        """All of it is kept."""
        self.redelivered = set()
        self._candles.mark_clean()
        self._sealer.on_saved(item for item in changes if isinstance(item, Seal))

    async def _minute_builder(self, series: Series) -> MinuteBuilder:
        if series not in self._minute_builders:
            self._minute_builders[series] = MinuteBuilder(series, None, await self._candles.newest(series))
        return self._minute_builders[series]

    async def _collect_changes(self, noticed: Sequence[CandleGap], now: int) -> list[Change]:
        settled = await self._gaps.resolve(self._candles, noticed, now)
        holes = {(hole.series, hole.since, hole.until): hole for hole in (*noticed, *settled)}
        return [*self._candles.dirty.values(), *holes.values(), *await self._sealer.reseal_corrected(now)]

    def _idle_until(self, series: Series, status: ExchangeStatus | None, queue_idle: bool) -> int:
        """Up to when it is certain that no trade is on its way: the feed lives, and what it gave has been built in.

        By the exchange's clock, as minutes are: that of a collector, or ours, may be any time ahead of it.
        """
        sources = status.feeds if status and status.transport == "socket" else ()
        source = next((source for source in sources if source.instrument == series.instrument), None)
        if source is None or source.status is not FeedStatus.LIVE or source.confirmed is None:
            return 0
        if status is None or status.clock_offset is None:
            return 0
        confirmed = source.confirmed + status.clock_offset
        return (
            confirmed if queue_idle else min(confirmed, self._last_trade_time.get(series.exchange, 0))
        ) - IDLE_LAG_MS


def _candle_and_parents(series: Series, open_time: int) -> Iterator[tuple[Series, int]]:
    """A candle, and the longer ones that hold it."""
    names = list(TIMEFRAMES)
    for name in names[names.index(series.timeframe) :]:
        yield series._replace(timeframe=name), TIMEFRAMES[name].open_time(open_time)
