"""Keeps the store complete: what is missing is asked of the exchange, and sent to the store behind what is live.

What is forming now comes first, then what somebody waits for, then the newest of all series, the longest bars first.
All it knows of its progress is in the store, so that it goes on after any end.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import NamedTuple

from services.collector.exchange_feed import Line
from services.collector.gap_scanner import DOUBT, LAST_TRY, Backlog
from services.collector.request_weight import Budget
from services.collector.requested_history import Requests
from services.collector.rest_client import NoAnswer, Rest
from services.core import ranges
from services.core.backoff import delays
from services.core.bounds import OPENINGS
from services.core.errors import Unavailable
from services.core.model import HistoryRequest, Hole, HoleState, Kline, Progress, Series, SeriesProgress
from services.core.ranges import Run
from services.core.timeframes import DAY, MINUTE, TIMEFRAMES
from services.ports import CandleReader, Deps

URGENT = 1_800_000  # ms; what is missing since then goes before what is older
IN_FLIGHT = 3  # requests at once; their answers go to the store one after the other
SCAN_REST = 3  # times as long as a look has taken, before the next that nobody waits for: what is live goes first
RESCAN = 60_000  # ms before a series is looked at again while pages of it are still to be fetched
PATIENCE = 60  # seconds in which a page should reach the store
FEW = 100  # candles, of which several pages may be on their way at once
IDLE = 1.0  # seconds between two looks for something to do, when nothing tells of it
REPORT = 0.5  # seconds between two reports of progress
MAX_LISTED = 200  # series whose progress is reported one by one
log = logging.getLogger(__name__)


class _Failure(NamedTuple):
    """A series that the exchange does not answer about, while it answers about others."""

    reason: str
    retry_at: float  # by the loop's clock
    pauses: Iterator[float]


class _Page(NamedTuple):
    backlog: Backlog
    run: Run


class History:
    """The history of all instruments of one exchange."""

    def __init__(self, line: Line, rest: Rest, deps: Deps) -> None:
        self._line, self._rest, self._deps = line, rest, deps
        self._exchange = line.exchange
        self._store: CandleReader = deps.store  # all that a collector without a database can read
        self._budget = Budget(line.exchange, deps.cache, line.exchange_now, line.clock)
        given = {instrument: line.exchange.timeframes(instrument) for instrument in line.wanted}
        self._backlogs = {
            (series := Series(line.exchange.name, instrument, name)): Backlog(
                series, self._store, line.exchange, frames
            )
            for name in reversed(TIMEFRAMES)  # so that nothing rolled up precedes the exchange's own word
            for instrument, frames in given.items()
            if name in frames
        }
        self._order = {series: place for place, series in enumerate(self._backlogs)}
        self._requests = Requests(line.exchange.name, given)
        self._pages: dict[Series, list[Run]] = {}  # that are to be asked for, the newest first
        self._busy: set[Series] = set()  # that are looked at, or of which a page is on its way
        self._missing: dict[Series, list[Run]] = {}
        self._expected: dict[Series, tuple[int, int]] = {}  # the first opening, and how many candles
        self._scanned: dict[Series, int] = {}  # when each was looked at
        self._halted: set[Series] = set()  # that are looked at seldom, as long as they are not traded
        self._failures: dict[Series, _Failure] = {}
        self._paused_until, self._reason = 0.0, ""  # by the loop's clock; why nothing is asked
        self._pauses = delays(1, 60)  # of the whole exchange
        self._work, self._looks, self._turn = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._saving = asyncio.Lock()
        self._changed = False

    def _now(self) -> int:
        """The time that tells which bars are closed."""
        return self._line.exchange_now()

    async def keep_complete(self) -> None:
        """Look and ask, for ever."""
        if not self._backlogs:
            return
        self._busy.clear()  # of an attempt that broke
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear_requests())
            group.create_task(self._report())
            await self._line.listed.wait()
            group.create_task(self._scan())
            for _ in range(IN_FLIGHT):
                group.create_task(self._fetch_pages())

    async def _hear_requests(self) -> None:
        async with self._line.bus.live(HistoryRequest) as messages:
            async for message in messages:
                if isinstance(message, HistoryRequest) and self._requests.add(message, self._line.clock.monotonic()):
                    self._looks.set()
                    self._work.set()

    async def _report(self) -> None:
        while True:
            if self._changed:
                self._changed = False
                before, self._line.history = self._line.history, self._progress()
                if (
                    before and before.loading and not self._line.history.loading
                ):  # series without a first look are listed
                    log.info("%s: all %d candles are there", self._exchange.name, self._line.history.expected)
            await self._line.clock.sleep(REPORT)

    def _progress(self) -> Progress:
        loading = [
            self._series_progress(series)
            for series in self._backlogs
            if series.instrument in self._line.sources and self._missing.get(series, True)
        ]
        return Progress(
            sum(expected for _, expected in self._expected.values()),
            sum(self._backlogs[series].timeframe.count(runs) for series, runs in self._missing.items()),
            tuple(loading[:MAX_LISTED]),
            len(loading[MAX_LISTED:]),
            self._reason if asyncio.get_running_loop().time() < self._paused_until else "",
        )

    def _series_progress(self, series: Series) -> SeriesProgress:
        since, expected = self._expected.get(series, (0, 0))
        missing = self._backlogs[series].timeframe.count(self._missing.get(series, ()))
        failure = self._failures.get(series)
        return SeriesProgress(*series[1:], since, expected, missing, failure.reason if failure else "")

    async def _scan(self) -> None:
        """Look for what is missing, beside fetching it."""
        pauses = delays(1, 60)
        while True:
            self._looks.clear()
            if not (due := self._next_look()):
                await _signalled(self._looks, IDLE)
                continue
            wanted, backlog = due
            began = self._line.clock.monotonic()
            self._busy.add(backlog.series)
            try:
                await self._rest.learn_clock()
                await self._look(backlog)
            except NoAnswer as error:
                self._pause(error.reason, error.wait)
                await self._line.clock.sleep(max(next(pauses), error.wait))
                continue
            except Unavailable as error:
                log.info("%s: looking for missing candles waits: %s", self._exchange.name, error)
                await self._line.clock.sleep(next(pauses))
                continue
            finally:
                self._busy.discard(backlog.series)
                self._work.set()
            pauses = delays(1, 60)
            if not wanted:
                await _signalled(self._looks, SCAN_REST * (self._line.clock.monotonic() - began) / 1000)

    def _next_look(self) -> tuple[bool, Backlog] | None:
        """What is to be looked at now, and whether somebody waits for it."""
        now, clock = self._now(), self._line.clock.monotonic()
        due = [
            ((not self._requests.wants_forming(series, clock), series in self._scanned, backlog.due), backlog)
            for series, backlog in self._backlogs.items()
            if (backlog.is_due(now) or (series in self._halted and series.instrument in self._line.sources))
            and series not in self._busy
            and not (self._pages.get(series) and now - self._scanned[series] < RESCAN)
        ]
        if not due:
            return None
        (unwanted, *_), backlog = min(due, key=lambda each: each[0])
        return not unwanted, backlog

    async def _look(self, backlog: Backlog) -> None:
        now, series = self._now(), backlog.series
        if traded := series.instrument in self._line.sources:
            self._halted.discard(series)
        elif series.instrument in self._line.halted:
            self._halted.add(series)
            now -= DOUBT  # what it does not have by then it will not have
        else:
            backlog.due = now + MINUTE
            return
        link = self._line.link
        streaming = self._line.exchange_clock.now(link.streaming) if link.sockets else now
        found = await backlog.look(now, self._deps.settings.history_bars, streaming if traded else 0)
        if not traded:
            backlog.due = now + DAY
        await self._line.bus.publish(*found.holes)
        self._pages[series] = self._cut(backlog, found.asked, now)
        self._missing[series], self._expected[series] = list(found.missing), (found.since, found.expected)
        self._scanned[series], self._changed = now, True
        if not found.asked:
            self._failures.pop(series, None)

    def _cut(self, backlog: Backlog, asked: Sequence[Run], now: int) -> list[Run]:
        """As few pages as can be, the bars that are part of a forming one apart: it waits for them."""
        timeframe, split = backlog.timeframe, backlog.forming_since(now)
        if not self._exchange.history_days:  # else each answer is all that there is
            asked = [part for run in asked for part in _split(timeframe.back(split, 1), split, run)]
        return ranges.pages(timeframe, asked, self._exchange.history_bars)

    async def _fetch_pages(self) -> None:
        """Ask for one page after the other."""
        while True:
            self._work.clear()
            async with self._turn:
                if (page := self._next_page()) is not None:
                    await self._budget.afford()
                    page = self._next_page()  # what has become more urgent meanwhile
                if page is not None:
                    self._busy.add(page.backlog.series)
            if page is None:
                await _signalled(self._work, IDLE)
                continue
            series = page.backlog.series
            try:
                await self._fetch(page)
            except NoAnswer as error:
                self._fail(page, error)
            except Unavailable as error:
                self._pause(str(error), 0)
            else:
                self._pauses = delays(1, 60)
                self._failures.pop(series, None)
            finally:
                self._busy.discard(series)
                self._looks.set()
                self._work.set()

    def _next_page(self) -> _Page | None:
        now, clock, time = self._now(), self._line.clock.monotonic(), asyncio.get_running_loop().time()
        best: tuple[tuple[int, int, int], _Page] | None = None
        if time < self._paused_until:
            return None
        for series, pages in self._pages.items():
            failure = self._failures.get(series)
            if not pages or series in self._busy or (failure and time < failure.retry_at):
                continue
            backlog = self._backlogs[series]
            wanted = next((p for p, run in enumerate(pages) if self._requests.wants(series, run, clock)), 0)
            for place in {0, wanted}:
                rank = self._urgency(backlog, pages[place], now, clock), place, self._order[series]
                if best is None or rank < best[0]:
                    best = rank, _Page(backlog, pages[place])
        if best and best[0][0] and any(self._wanted_unseen(clock)):
            return None  # what is more urgent is found in a moment
        return best and best[1]

    def _wanted_unseen(self, clock: int) -> Iterator[bool]:
        """Series that a requested bar is made of, and that nobody has looked at yet."""
        return (
            self._requests.wants_forming(series, clock) and series.instrument in self._line.sources
            for series in self._backlogs.keys() - self._scanned.keys()
        )

    def _urgency(self, backlog: Backlog, run: Run, now: int, clock: int) -> int:
        forming = run[1] >= backlog.forming_since(now)
        if forming and self._requests.wants_forming(backlog.series, clock):
            return 0
        if self._requests.wants(backlog.series, run, clock):
            return 1
        return 2 if forming or now - run[0] < URGENT else 3

    async def _fetch(self, page: _Page) -> None:
        """Ask for a page, and have it saved: the next goes when this one is, so that the bus never fills with it."""
        backlog, run = page
        series, now = backlog.series, self._now()
        klines = await self._asked(series, run)
        async with self._saving if len(klines) > FEW else nullcontext():
            await self._line.bus.publish(*klines)
            older = [each for each in self._pages[series] if each < run]
            if older and not klines and await backlog.begins_after(run[1], now):
                run = older[-1][0], run[1]  # when nothing comes there is nothing older either
            absent = _absent(backlog, run, klines, now)
            await self._line.bus.publish(*absent)
            if klines:
                await self._saved(klines[-1])
        self._note_fetched(backlog, run, absent)

    def _note_fetched(self, backlog: Backlog, run: Run, absent: Sequence[Hole]) -> None:
        """What is left to do. What the exchange does not have is not expected any more."""
        series, timeframe = backlog.series, backlog.timeframe
        self._pages[series] = [each for each in self._pages[series] if each[1] < run[0] or each[0] > run[1]]
        missing, (since, expected) = self._missing[series], self._expected[series]
        wanted = ranges.without(timeframe, missing, [(hole.since, hole.until) for hole in absent])
        expected -= timeframe.count(missing) - timeframe.count(wanted)
        if absent and absent[0].since <= since:
            since = timeframe.closing(absent[0].until)
        self._expected[series], self._changed = (since, expected), True
        self._missing[series] = ranges.without(timeframe, wanted, [run])

    async def _saved(self, newest: Kline) -> None:
        """Wait until a page is in the store, or for so long that it may never be."""
        opening = newest.bar.timestamp
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for pause in delays(0.02, 0.2):
                    found = await self._store.candles(newest.series, opening, opening)
                    # one that was rolled up may have been there before: only what this page brought is of its source
                    if found and found[0].closed and found[0].source is newest.source:
                        return
                    await self._line.clock.sleep(pause)

    async def _asked(self, series: Series, page: Run) -> list[Kline]:
        """What the exchange has of a page. Raises NoAnswer."""
        exchange = self._exchange
        ask = exchange.history and exchange.history(series.instrument, series.timeframe, *page)
        if ask is None:
            raise ValueError(f"{exchange.name} has no candles of {series.instrument} {series.timeframe}")
        events = await self._rest.get(ask)
        return [event for event in events if isinstance(event, Kline) and page[0] <= event.bar.timestamp <= page[1]]

    def _fail(self, page: _Page, error: NoAnswer) -> None:
        """What is wrong with one series stops that one; what is wrong with the exchange stops all of it for a while."""
        series, loop = page.backlog.series, asyncio.get_running_loop()
        before = self._failures.get(series)
        # An exchange that does not answer may do so soon; where calls are dear, a refusal is believed for longer.
        first = max(15, self._exchange.history_seconds / 100) if error.about_request else 1
        pauses = before.pauses if before else delays(first, max(LAST_TRY, self._exchange.history_seconds))
        self._failures[series] = _Failure(error.reason, loop.time() + next(pauses), pauses)
        self._changed = True
        if error.about_request and not error.wait:
            log.warning("%s: no candles of %s %s: %s", *series, error.reason)
            return
        self._pause(error.reason, error.wait)

    def _pause(self, reason: str, wait: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._paused_until:  # of several that fail together one counts
            wait = max(next(self._pauses), wait)
        self._paused_until, self._reason = max(self._paused_until, loop.time() + wait), reason
        self._changed = True
        log.info("%s: the history waits: %s", self._exchange.name, reason)
        loop.call_at(self._paused_until, self._work.set)


async def _signalled(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _split(before: int, first: int, run: Run) -> list[Run]:
    """A run as its parts up to one opening and from the next one on."""
    return [run] if not run[0] < first <= run[1] else [(run[0], before), (first, run[1])]


def _absent(backlog: Backlog, run: Run, klines: Sequence[Kline], now: int) -> list[Hole]:
    """What the exchange does not have, although it should: it will not have it later."""
    timeframe, have = backlog.timeframe, {kline.bar.timestamp for kline in klines}
    absent = (o for o in timeframe.openings(*run) if o not in have and timeframe.closing(o) < now - DOUBT)
    parts = ranges.pages(timeframe, ranges.of(timeframe, absent), OPENINGS)
    return [Hole(backlog.series, *part, now, HoleState.ABSENT, now) for part in parts]
