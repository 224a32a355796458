"""What the writer changes: a batch of messages becomes changes, which are saved together or not at all."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter

from services.core.candles import from_kline
from services.core.dead_letters import DeadLetter
from services.core.errors import Unavailable
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
from services.writer.candle_cache import StoredCandleCache
from services.writer.gap_registry import GapRegistry
from services.writer.sealing import Sealer

IDLE_LAG_MS = 3_000  # after a minute's end, before it is closed without a later trade
log = logging.getLogger(__name__)
Change = Candle | TradeCursor | CandleGap | Seal | FeedGap | DeadLetter
CandleKey = tuple[Series, int]  # with the open time
Keys = frozenset[CandleKey]
_exchange_and_instrument = attrgetter("exchange", "instrument")


class StoreRejectedError(Exception):
    """The store works, and rejects what a message has become."""


class PendingChanges:
    """The changes of one step. The processor takes no other step before they are committed."""

    def __init__(
        self,
        changes: Sequence[Change],
        save: Callable[[Sequence[Change]], Awaitable[None]],
        redelivered: Keys = frozenset(),
    ) -> None:
        self.changes, self._save = changes, save
        self.redelivered = redelivered  # candles that klines of the batch are about, and that were stored before

    @property
    def candles(self) -> list[Candle]:
        """The candles among the changes."""
        return [change for change in self.changes if isinstance(change, Candle)]

    async def commit(self) -> None:
        """Save the changes in one transaction. Raises Unavailable or StoreRejectedError: the processor is over then."""
        await self._save(self.changes)


class BatchProcessor:
    """The state of all candles, and the steps that change it.

    A step returns PendingChanges. When a step or its commit raises, the state differs from the store: each later step
    raises RuntimeError, and a new processor has to load what is stored.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._candles, self._gaps = store, StoredCandleCache(store), GapRegistry()
        self._sealer = Sealer(store, self._candles, self._gaps)
        self._minute_builders: dict[Series, MinuteBuilder] = {}
        self._last_trade_time: dict[str, int] = {}  # of each exchange, by its clock: the newest trade that is built in
        self._in_step = False

    async def load(self) -> None:
        """Load the state from the store."""
        for cursor in await self._store.cursors():
            last = await self._candles.newest(cursor.series)
            self._minute_builders[cursor.series] = MinuteBuilder(cursor.series, cursor, last)
        await self._gaps.load(self._store)

    def last_two_candles(self) -> set[CandleKey]:
        """Return the last two candles of every series that is built from trades."""
        return {
            (series._replace(timeframe=name), open_time)
            for series, builder in self._minute_builders.items()
            for name, timeframe in TIMEFRAMES.items()
            if (cursor := builder.cursor)
            for newest in (timeframe.open_time(cursor.time),)
            for open_time in (newest, timeframe.step_back(newest, 1))
        }

    async def current_candles(self, keys: Iterable[CandleKey]) -> list[Candle]:
        """Return those of these candles that exist, by series and open time."""
        candles = []
        for series, of_series in groupby(sorted(keys), itemgetter(0)):
            open_times = [open_time for _, open_time in of_series]
            await self._candles.load(series, open_times)
            candles += [candle for open_time in open_times if (candle := self._candles.get(series, open_time))]
        return candles

    async def apply(
        self, messages: Sequence[Message], now: int, dead_letters: Sequence[DeadLetter] = ()
    ) -> PendingChanges:
        """Apply a batch of messages. `dead_letters` are saved with it."""
        self._begin_step()
        trades = [message for message in messages if isinstance(message, Trade)]
        klines = [from_kline(message) for message in messages if isinstance(message, Kline)]
        built, cursors = await self._build_minutes(trades)
        await rollup.apply_and_roll_up(self._candles, [*built, *klines], now)
        gaps = self._gaps.register(message for message in messages if isinstance(message, CandleGap))
        self._sealer.on_absent_gaps(gap for gap in gaps if gap.state is CandleGapState.ABSENT)
        feed_gaps = [message for message in messages if isinstance(message, FeedGap)]
        redelivered = self._unchanged_by(klines)
        changes: list[Change] = [*dead_letters, *feed_gaps, *cursors, *await self._candle_changes(gaps, now)]
        return PendingChanges(changes, self._save, redelivered)

    async def close_idle_minutes(
        self, statuses: Mapping[str, ExchangeStatus], queue_idle: bool, now: int
    ) -> PendingChanges:
        """Close minutes that ended without a later trade. `queue_idle`: no message waits in the writer's queue."""
        self._begin_step()
        closed = [
            candle
            for series, builder in self._minute_builders.items()
            for candle in builder.close_idle(self._idle_until(series, statuses.get(series.exchange), queue_idle))
        ]
        await rollup.apply_and_roll_up(self._candles, closed, now)
        return PendingChanges(await self._candle_changes((), now), self._save)

    async def seal_days(self, series: Series, first: int, last: int, now: int) -> PendingChanges:
        """Seal the days of a series that became complete. `first` and `last` are the ends of what is stored."""
        self._begin_step()
        return PendingChanges(await self._sealer.seal_complete_days(series, first, last, now), self._save)

    async def delete_future_candles(self, series: Series, since: int) -> PendingChanges:
        """Delete candles whose open time has not come: a clock or a message was wrong once."""
        self._begin_step()
        count = await self._store.delete_candles(series, since)
        log.warning("%s %s %s: %d candles of the future are deleted", *series, count)
        self._candles.forget(series)
        self._gaps.discard_from(series, since)
        self._sealer.forget(series)
        builder = self._minute_builders.get(series)
        if builder and builder.cursor and builder.cursor.time >= since:
            self._minute_builders[series] = MinuteBuilder(series, None, await self._candles.newest(series))
        return PendingChanges((), self._save)

    def _begin_step(self) -> None:
        if self._in_step:
            raise RuntimeError("the step before was not committed: load a new processor")
        self._in_step = True

    async def _save(self, changes: Sequence[Change]) -> None:
        if not self._in_step:
            raise RuntimeError("these changes are committed already")
        try:
            if changes:
                await self._store.save(*changes)
        except Unavailable:
            raise
        except Exception as error:
            raise StoreRejectedError(str(error)) from error
        self._candles.mark_clean()
        self._sealer.on_saved(change for change in changes if isinstance(change, Seal))
        self._in_step = False

    async def _build_minutes(self, trades: Sequence[Trade]) -> tuple[list[Candle], list[TradeCursor]]:
        """Return the minutes that trades change, and how far each series is built."""
        built, builders = dict[CandleKey, Candle](), dict[Series, MinuteBuilder]()
        for (exchange, instrument), instrument_trades in groupby(trades, _exchange_and_instrument):
            series, consecutive = Series(exchange, instrument, "1m"), list(instrument_trades)
            builders[series] = await self._minute_builder(series)
            self._last_trade_time[exchange] = consecutive[-1].time
            for candle in builders[series].add_trades(consecutive):
                built[series, candle.bar.open_time] = candle
        return [*built.values()], [cursor for builder in builders.values() if (cursor := builder.cursor)]

    async def _minute_builder(self, series: Series) -> MinuteBuilder:
        if series not in self._minute_builders:
            self._minute_builders[series] = MinuteBuilder(series, None, await self._candles.newest(series))
        return self._minute_builders[series]

    def _unchanged_by(self, klines: Sequence[Candle]) -> Keys:
        """Return the candles of klines that change nothing, and the longer ones that hold them."""
        keys = ((kline.series, kline.bar.open_time) for kline in klines)
        return frozenset(key for kline in keys if kline not in self._candles.dirty for key in _with_parents(*kline))

    async def _candle_changes(self, new_gaps: Sequence[CandleGap], now: int) -> list[Change]:
        resolved = await self._gaps.resolve(self._candles, new_gaps, now)
        gaps = {(gap.series, gap.since, gap.until): gap for gap in (*new_gaps, *resolved)}
        return [*self._candles.dirty.values(), *gaps.values(), *await self._sealer.reseal_corrected(now)]

    def _idle_until(self, series: Series, status: ExchangeStatus | None, queue_idle: bool) -> int:
        """Return up to when no trade can arrive any more: the feed is live, and its trades are built in.

        By the exchange's clock, as minutes are: a collector's clock, or ours, may be ahead of it.
        """
        if status is None or status.transport != "socket" or status.clock_offset is None:
            return 0
        feed = next((feed for feed in status.feeds if feed.instrument == series.instrument), None)
        if feed is None or feed.status is not FeedStatus.LIVE or feed.confirmed is None:
            return 0
        confirmed = feed.confirmed + status.clock_offset
        built_until = confirmed if queue_idle else min(confirmed, self._last_trade_time.get(series.exchange, 0))
        return built_until - IDLE_LAG_MS


def _with_parents(series: Series, open_time: int) -> Iterator[CandleKey]:
    """Yield a candle's key, and those of the longer candles that hold it."""
    names = list(TIMEFRAMES)
    for name in names[names.index(series.timeframe) :]:
        yield series._replace(timeframe=name), TIMEFRAMES[name].open_time(open_time)
