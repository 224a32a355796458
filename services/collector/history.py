"""Keeps the store complete: what is missing is asked of the exchange, newest first, behind what is live.

All it knows of its progress is in the store, so that it goes on after any end.
"""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from services.collector.backlog import DOUBT, Backlog
from services.collector.budget import Budget
from services.collector.line import Line
from services.collector.rest import NoAnswer, Rest
from services.core import runs
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.core.model import Hole, HoleState, Kline, Progress, Series
from services.core.runs import Run
from services.core.timeframes import MINUTE, TIMEFRAMES
from services.ports import Deps

URGENT = 1_800_000  # ms; what is missing since then goes before what is older
PACE = 0.1  # seconds between two pages: what is live goes first
REST = 3  # times as long as a look has taken, before the next: for the same reason
PATIENCE = 60_000  # ms in which a page should reach the store
log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """A page that is on its way to the store: nothing of another goes before its newest candle is there, or `until`.

    So the bus never fills with history, and what is live passes.
    """

    newest: Kline
    until: int


class History:
    """The history of all instruments of one exchange."""

    def __init__(self, line: Line, rest: Rest, deps: Deps) -> None:
        self._line, self._rest, self._deps = line, rest, deps
        self._budget = Budget(line.exchange, deps.cache, line.exchange_now, line.clock)
        self._backlogs = [
            Backlog(Series(line.exchange.name, instrument, name), deps.store, line.exchange, frames)
            for name in reversed(TIMEFRAMES)  # so that nothing rolled up precedes the exchange's own word
            for instrument in line.wanted
            if name in (frames := line.exchange.timeframes(instrument))
        ]
        self._pages: dict[Series, list[Run]] = {}  # that are to be asked for
        self._sent: Sent | None = None  # the last page
        self._amounts: dict[Series, Progress] = {}

    async def keep_complete(self) -> None:
        """Look and ask, for ever."""
        if not self._backlogs:
            return
        await self._line.listed.wait()
        pauses = delays(1, 60)
        while True:
            try:
                await self._rest.learn_clock()
                wait = await self._step()
            except (Unavailable, NoAnswer) as error:
                log.info("%s: the history waits: %s", self._line.exchange.name, error)
                wait = max(next(pauses), error.wait if isinstance(error, NoAnswer) else 0)
            else:
                pauses = delays(1, 60)
            await self._line.clock.sleep(wait)

    async def _step(self) -> float:
        """The next look, or the next page; answers the seconds until the one after it."""
        now = self._line.exchange_now()
        backlog = min(self._backlogs, key=lambda each: each.due)
        if backlog.due <= now:
            started = time.monotonic()
            await self._look(backlog, now)
            return REST * (time.monotonic() - started)
        waiting = [each for each in self._backlogs if self._pages.get(each.series)]
        if not waiting:
            return min(1.0, (backlog.due - now) / 1000)
        if self._sent and now < self._sent.until and not await self._arrived(self._sent):
            return PACE
        asked = next((each for each in waiting if now - min(self._pages[each.series])[0] < URGENT), waiting[0])
        await self._fetch(asked, self._pages[asked.series][0])
        return PACE

    async def _look(self, backlog: Backlog, now: int) -> None:
        if backlog.series.instrument not in self._line.sources:
            backlog.due = now + MINUTE
            return
        exchange = self._line.exchange
        found = await backlog.look(now, self._deps.settings.history_bars)
        await self._line.bus.publish(*found.holes)
        self._pages[backlog.series] = runs.pages(backlog.timeframe, found.asked, exchange.history_bars)
        self._tell(backlog.series, found.expected, sum(backlog.timeframe.expected(*run) for run in found.missing))

    async def _fetch(self, backlog: Backlog, page: Run) -> None:
        """Ask for the newest page, and publish what comes."""
        klines = await self._asked(backlog.series, page)
        await self._line.bus.publish(*klines)
        if klines:
            self._sent = Sent(klines[-1], self._line.exchange_now() + PATIENCE)
        older = [each for each in self._pages[backlog.series] if each < page]
        if older and not klines and await backlog.begins_after(page[1], self._line.exchange_now()):
            page, older = (older[-1][0], page[1]), []  # when nothing comes there is nothing older either
        await self._line.bus.publish(*_absent(backlog, page, klines, self._line.exchange_now()))
        self._pages[backlog.series] = older
        known = self._amounts[backlog.series]
        self._tell(backlog.series, known.expected, max(0, known.missing - backlog.timeframe.expected(*page)))

    async def _arrived(self, sent: Sent) -> bool:
        series, opening = sent.newest.series, sent.newest.bar.timestamp
        found = await self._deps.store.candles(series, opening, opening)
        return bool(found) and found[0].closed

    async def _asked(self, series: Series, page: Run) -> list[Kline]:
        """What the exchange has of a page. Raises NoAnswer."""
        exchange = self._line.exchange
        ask = exchange.history and exchange.history(series.instrument, series.timeframe, *page)
        if ask is None:
            raise ValueError(f"{exchange.name} has no candles of {series.instrument} {series.timeframe}")
        await self._budget.afford()
        events = await self._rest.get(ask)
        return [event for event in events if isinstance(event, Kline) and page[0] <= event.bar.timestamp <= page[1]]

    def _tell(self, series: Series, expected: int, missing: int) -> None:
        before = self._line.history
        self._amounts[series] = Progress(expected, missing)
        amounts = self._amounts.values()
        self._line.history = Progress(sum(a.expected for a in amounts), sum(a.missing for a in amounts))
        if before and before.missing and not self._line.history.missing:
            log.info("%s: all %d candles are there", self._line.exchange.name, self._line.history.expected)


def _absent(backlog: Backlog, run: Run, klines: Sequence[Kline], now: int) -> list[Hole]:
    """What the exchange does not have, although it should: it will not have it later."""
    timeframe, have = backlog.timeframe, {kline.bar.timestamp for kline in klines}
    absent = (o for o in timeframe.openings(*run) if o not in have and timeframe.closing(o) < now - DOUBT)
    return [Hole(backlog.series, *part, now, HoleState.ABSENT, now) for part in runs.of(timeframe, absent)]
