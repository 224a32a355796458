"""All series that are followed: what changed in them is put right in the store, one series at a time, what is live
first."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from services.analyst import metrics
from services.analyst.backfill_monitor import Arrivals
from services.analyst.computed_rows import asked_for, daily_since, formed, needed, rows
from services.analyst.series_window import KEPT, Window
from services.core.analysis import Analysis
from services.core.conversion import collected
from services.core.errors import Unavailable
from services.core.history_depth import source
from services.core.indicators import STANDARD, Asked, Columns, columns, parse
from services.core.journal import reading_log
from services.core.model import Candle, Reading, Series, State, Wish
from services.core.timeframes import DAY, TIMEFRAMES
from services.log_throttle import Complaints
from services.ports import Deps
from services.sequencing import Teller

FOREVER = 2**62
WHOLE = 600_000  # ms after which all of a series is read again, whatever was heard
TOLD = 3  # newest closed candles whose readings are told when they change
WISHED = 30_000  # ms that a wish lasts from when it came: the clock of the replica that stamped it may be wrong
DAILY = "1d"
MADE_OF_DAYS = [name for name, frame in TIMEFRAMES.items() if daily_since(frame, frame.opening(DAY)) is not None]
WISHES = 1_000  # indicators that are watched beside the standard set
log = logging.getLogger(__name__)


class Desk:
    """The windows of all series, and what is done with them."""

    def __init__(self, deps: Deps) -> None:
        self._deps, self._teller, self._complaints = deps, Teller(deps), Complaints(log)
        self.windows = {series: Window(series) for series in configured(deps)}
        self._wishes: dict[tuple[Series, Asked], int] = {}  # what is watched beside the standard set, and until when
        self._followed: dict[Series, int] = {}  # whose indicators somebody watches, and until when
        given = {exchange.name: exchange.timeframes for exchange in deps.exchanges}
        sources = {each: source(each.timeframe, given[each.exchange](each.instrument)) for each in self.windows}
        self._arrivals = Arrivals(sources, deps.clock.monotonic())

    def hear(self, candle: Candle) -> None:
        """A candle is new or has changed."""
        now = self._deps.clock.monotonic()
        if window := self.windows.get(candle.series):
            window.hear(candle, now)
        if candle.closed and candle.series.timeframe == DAILY:
            for name in MADE_OF_DAYS:
                if window := self.windows.get(candle.series._replace(timeframe=name)):
                    window.doubt(now)

    def wish(self, wish: Wish) -> None:
        """Somebody watches an indicator, just now. Raises KursError when there is no such one."""
        (asked,), window = parse(wish.indicator), self.windows.get(wish.series)
        if window is None:
            return
        until = self._deps.clock.monotonic() + WISHED
        self._followed[wish.series] = until
        self._teller.follow(reading_log(wish.series, str(asked)))
        if asked in STANDARD:
            return
        if (wish.series, asked) not in self._wishes:
            if len(self._wishes) >= WISHES:
                return
            window.stale = window.moved = True  # it may look further back than what is at hand
        self._wishes[wish.series, asked] = until

    def _wished(self, series: Series) -> list[Asked]:
        now = self._deps.clock.monotonic()
        for over in [key for key, until in self._wishes.items() if until < now]:
            del self._wishes[over]
            self._teller.forget(reading_log(over[0], str(over[1])))
        return [asked for each, asked in self._wishes if each == series]

    def stand(self, state: State) -> None:
        """A collector says how it stands."""
        self._arrivals.hear(state, self._deps.clock.monotonic())

    @property
    def loading(self) -> bool:
        """Whether history is being loaded: what is computed of it can wait."""
        return self._arrivals.any(self._deps.clock.monotonic())

    def next(self) -> Window | None:
        """What is to be done now: first what is live, then what somebody follows, then all whose history is there."""
        now = self._deps.clock.monotonic()
        live = next((window for window in self.windows.values() if window.due is not None and not window.stale), None)
        if live:
            return live
        self._followed = {series: until for series, until in self._followed.items() if until >= now}
        ripe = [window for window in self.windows.values() if window.ripe(now)]
        followed = (window for window in ripe if window.series in self._followed)
        arrived = (window for window in ripe if not self._arrivals.waits(window.series, now))
        return next(followed, None) or next(arrived, None)

    async def settle(self, window: Window) -> None:
        """Have the rows of a series say what its candles say. Raises Unavailable; then it is to be done still."""
        with metrics.SECONDS.time():
            if window.stale:
                await self._read(window)
            due, wrong, window.due, window.wrong = window.due, window.wrong, None, None
            if due is None:
                return
            items: Sequence[Reading | Analysis] = ()
            newest = window.closed.time[-TOLD:].tolist()
            told = max(due, newest[0]) if newest else due
            closed, daily, also = window.closed, window.daily, self._wished(window.series)
            wished = await asyncio.to_thread(asked_for, window.series, closed, told, also, daily)
            try:
                items = await asyncio.to_thread(rows, window.series, closed, due, daily)
                await self._save(window.series, items, due, wrong)
            except BaseException:
                window.again(due, wrong)
                raise
        standard = [item for item in items if isinstance(item, Reading) and item.timestamp >= told]
        await self._tell([*standard, *wished])

    async def look(self) -> None:
        """Compare what is at hand with the store. Raises Unavailable."""
        now = self._deps.clock.monotonic()
        for window in self.windows.values():
            if window.stale:
                continue
            newest = await self._deps.store.last(window.series, FOREVER, KEPT + 1)
            window.stale |= now - window.read >= WHOLE or not window.agrees(newest)

    async def follow(self) -> None:
        """Tell what the standard indicators say at the forming candles that have moved."""
        moved = [window for window in self.windows.values() if window.moved and window.follows]
        for window in moved:
            window.moved = False

        def wanted(series: Series) -> list[Asked]:
            return [*STANDARD, *self._wished(series)]

        work = [
            (window.series, window.closed, columns([window.forming]), wanted(window.series), window.daily)
            for window in moved
            if window.forming
        ]
        if work:
            await self._tell(await asyncio.to_thread(_formed, work))

    async def _tell(self, readings: Sequence[Reading]) -> None:
        """Tell what is news. A bus that is away misses it: what counts is the newest."""
        try:
            await self._teller.tell(*readings)
        except Unavailable as error:
            self._complaints.say("%d readings are not told: %s", len(readings), error)

    async def _read(self, window: Window) -> None:
        heard, store, daily = window.reading(), self._deps.store, None
        try:
            newest = await store.last(window.series, FOREVER, KEPT + 1)
            if newest:
                opening = newest[0].bar.timestamp
                since = needed(window.timeframe, opening, self._wished(window.series))
                newest = await store.candles(window.series, since, FOREVER)
                if (days := daily_since(window.timeframe, opening)) is not None:
                    daily = await store.candles(window.series._replace(timeframe=DAILY), days, FOREVER)
        except BaseException:
            window.stale = True
            raise
        window.take(newest, heard, self._deps.clock.monotonic())
        if daily is not None:
            window.take_daily(daily)

    async def _save(self, series: Series, items: Sequence[Reading | Analysis], due: int, wrong: int | None) -> None:
        if wrong is not None and wrong < due:
            await self._deps.store.forget(series, wrong, due - 1)
        await self._deps.store.save(*items)
        metrics.ROWS.inc(len(items))


def _formed(work: Iterable[tuple[Series, Columns, Columns, Sequence[Asked], Columns | None]]) -> list[Reading]:
    return [reading for each in work for reading in formed(*each)]


def configured(deps: Deps) -> Iterable[Series]:
    """All timeframes of every symbol that the configured exchanges give candles of."""
    settings = deps.settings
    for exchange in deps.exchanges:
        for instrument in collected(exchange.name, settings.directions, settings.assets, settings.symbols):
            if exchange.timeframes(instrument):
                yield from (Series(exchange.name, instrument, name) for name in TIMEFRAMES)
