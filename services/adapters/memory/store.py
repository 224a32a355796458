"""Store in the memory of this process. Nothing in it outlives the process."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from msgspec.structs import replace

from services.core import ranges
from services.core.analysis import Analysis
from services.core.coverage import SeriesCoverage
from services.core.dead_letters import MAX_DEAD_LETTERS, DeadLetter
from services.core.minute_builder import TradeCursor
from services.core.model import Candle, CandleGap, CandleGapState, CandleSource, FeedGap, IndicatorValue, Rate, Series
from services.core.seals import Seal
from services.core.sender_clocks import supersedes
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.core.trading_rules import TradingRules
from services.leases import Lease

Storable = (
    Rate | FeedGap | Candle | CandleGap | Seal | TradeCursor | IndicatorValue | Analysis | TradingRules | DeadLetter
)


class MemoryStore:
    """What the SQL store saves, in dictionaries by key. It never fails."""

    def __init__(self) -> None:
        self.candle_rows: dict[Series, dict[int, Candle]] = {}
        self.cursor_rows: dict[Series, TradeCursor] = {}
        self.gap_rows: dict[tuple[Series, int, int], CandleGap] = {}
        self.seal_rows: dict[tuple[Series, int, int], Seal] = {}
        self.value_rows: dict[Series, dict[tuple[int, str], IndicatorValue]] = {}
        self.analysis_rows: dict[Series, dict[int, Analysis]] = {}
        self.rules_rows: dict[tuple[str, str], TradingRules] = {}
        self.dead_letter_rows: dict[str, DeadLetter] = {}
        self._rates: dict[str, Rate] = {}
        self._feed_gaps: dict[tuple[int, int, str, str], FeedGap] = {}

    async def save(self, *items: Storable) -> None:
        """Save the newest rate of each direction, every feed gap once, and everything else as given."""
        for item in items:
            match item:
                case Candle():
                    self.candle_rows.setdefault(item.series, {})[item.bar.open_time] = item
                case TradeCursor():
                    self.cursor_rows[item.series] = item
                case CandleGap():
                    self._save_gap(item)
                case Seal():
                    self.seal_rows[item.series, item.day, item.revision] = item
                case IndicatorValue():
                    self.value_rows.setdefault(item.series, {})[item.open_time, item.indicator] = item
                case Analysis():
                    self.analysis_rows.setdefault(item.series, {})[item.open_time or 0] = item
                case TradingRules():
                    self.rules_rows[item.exchange, item.symbol] = item
                case DeadLetter():
                    self.dead_letter_rows[item.id] = item
                case Rate():
                    self._save_rate(item)
                case FeedGap():
                    self._feed_gaps.setdefault(
                        (item.since, item.until, item.exchange, str(item.instrument or "")), item
                    )
        if any(isinstance(item, DeadLetter) for item in items):
            self._drop_oldest_dead_letters()

    def _drop_oldest_dead_letters(self) -> None:
        kept = sorted(self.dead_letter_rows.values(), key=lambda letter: (-letter.time, letter.id))[:MAX_DEAD_LETTERS]
        self.dead_letter_rows = {letter.id: letter for letter in kept}

    def _save_gap(self, gap: CandleGap) -> None:
        """Save a candle gap in place of the one of the same range, and of an open one that begins at the same time."""
        replaced = (gap.series, gap.since)
        self.gap_rows = {
            key: row
            for key, row in self.gap_rows.items()
            if key[:2] != replaced or row.state is not CandleGapState.OPEN
        }
        self.gap_rows[gap.series, gap.since, gap.until] = gap

    def _save_rate(self, rate: Rate) -> None:
        stored = self._rates.get(key := str(rate.direction))
        if stored is None or supersedes(rate.time, stored.time, time.time_ns() // 1_000_000):
            self._rates[key] = rate

    async def candles(
        self, series: Series, since: int, until: int, limit: int | None = None, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first, also the forming one; the first `limit`.

        Candles that are not closed are left out if they opened before `forming_since`.
        """
        rows = self.candle_rows.get(series, {})
        bound = -FAR_FUTURE if forming_since is None else forming_since
        within = (rows[open_time] for open_time in sorted(rows) if since <= open_time <= until)
        return [row for row in within if row.closed or row.bar.open_time >= bound][:limit]

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        """Return the newest `count` candles with open times up to `until`, oldest first; `forming_since` as above."""
        return (await self.candles(series, -FAR_FUTURE, until, forming_since=forming_since))[-count:]

    async def series(self) -> dict[Series, tuple[int, int]]:
        """Return every stored series with its first and last open time."""
        return {series: (min(rows), max(rows)) for series, rows in self.candle_rows.items() if rows}

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times in [since, until], both ends inclusive, without a closed candle."""
        rows, timeframe = self.candle_rows.get(series, {}), TIMEFRAMES[series.timeframe]
        missing = list[tuple[int, int]]()
        previous = None
        for open_time in timeframe.open_times(since, until):
            if not (open_time in rows and rows[open_time].closed):
                if missing and missing[-1][1] == previous:
                    missing[-1] = missing[-1][0], open_time
                else:
                    missing.append((open_time, open_time))
            previous = open_time
        return missing

    async def unconfirmed_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times of closed candles built from trades and not confirmed by a kline."""
        rows = await self.candles(series, since, until)
        unconfirmed = (row.bar.open_time for row in rows if row.closed and row.source is CandleSource.TRADES)
        return ranges.from_open_times(TIMEFRAMES[series.timeframe], unconfirmed)

    async def coverage(self, series: Series, since: int, until: int) -> SeriesCoverage:
        """Return which closed candles with open times in [since, until] are stored."""
        closed = [row for row in await self.candles(series, since, until) if row.closed]
        return SeriesCoverage(
            series=series,
            since=since,
            until=until,
            expected=TIMEFRAMES[series.timeframe].count_between(since, until),
            present=len(closed),
            empty=sum(row.kind == "empty" for row in closed),
            revised=sum(row.revision > 0 for row in closed),
            missing=tuple(await self.missing_ranges(series, since, until)),
            gaps=tuple(await self.candle_gaps_within(series, since, until)),
        )

    async def candle_gaps_within(self, series: Series, since: int, until: int) -> list[CandleGap]:
        """Return candle gaps of a series that overlap [since, until], oldest first."""
        return [
            gap for gap in self._sorted_gaps() if gap.series == series and gap.since <= until and gap.until >= since
        ]

    async def candle_gaps(
        self, state: CandleGapState, series: Series | None = None, limit: int | None = None
    ) -> list[CandleGap]:
        """Return all candle gaps in that state, or those of one series; the newest `limit`."""
        gaps = [gap for gap in self._sorted_gaps() if gap.state is state and series in (None, gap.series)]
        if limit is None:
            return gaps
        newest = sorted(gaps, key=lambda gap: (gap.since, gap.until), reverse=True)[:limit]
        return [gap for gap in gaps if gap in newest]

    def _sorted_gaps(self) -> list[CandleGap]:
        return sorted(self.gap_rows.values(), key=lambda gap: (*_columns(gap.series), gap.since, gap.until))

    async def cursors(self) -> list[TradeCursor]:
        """Return the last trade built into the candles of each series."""
        return sorted(self.cursor_rows.values(), key=lambda cursor: _columns(cursor.series))

    async def seals(self, series: Series, since: int, until: int) -> list[Seal]:
        """Return the newest revision of the seals of days in [since, until], oldest first."""
        seals = [seal for seal in self.seal_rows.values() if seal.series == series and since <= seal.day <= until]
        return list({seal.day: seal for seal in sorted(seals, key=lambda seal: (seal.day, seal.revision))}.values())

    async def indicator_values(self, series: Series, since: int, until: int) -> list[IndicatorValue]:
        """Return indicator values at closed candles with open times in [since, until], oldest first."""
        rows = self.value_rows.get(series, {})
        return [rows[key] for key in sorted(rows) if since <= key[0] <= until]

    async def analyses(self, series: Series, since: int, until: int) -> list[Analysis]:
        """Return analyses of closed candles with open times in [since, until], oldest first."""
        rows = self.analysis_rows.get(series, {})
        return [rows[open_time] for open_time in sorted(rows) if since <= open_time <= until]

    async def trading_rules(self, exchange: str | None = None) -> list[TradingRules]:
        """Return the trading rules of one exchange or of all, in the order of exchange and symbol."""
        rows = [self.rules_rows[key] for key in sorted(self.rules_rows)]
        return [row for row in rows if exchange in (None, row.exchange)]

    async def delete_derived(self, series: Series, since: int, until: int) -> None:
        """Delete indicator values and analyses of candles with open times in [since, until]."""
        values, analyses = self.value_rows.get(series, {}), self.analysis_rows.get(series, {})
        self.value_rows[series] = {key: row for key, row in values.items() if not since <= key[0] <= until}
        self.analysis_rows[series] = {key: row for key, row in analyses.items() if not since <= key <= until}

    async def delete_indicator_values(self, series: Series) -> None:
        """Delete all indicator values of a series, but no analyses."""
        self.value_rows.pop(series, None)

    async def delete_candles(self, series: Series, since: int) -> int:
        """Delete candles with open times from `since` on, and everything derived from them. Return how many."""
        await self.delete_derived(series, since, FAR_FUTURE)
        rows = self.candle_rows.get(series, {})
        older = self.candle_rows[series] = {open_time: row for open_time, row in rows.items() if open_time < since}
        if series in self.cursor_rows and self.cursor_rows[series].time >= since:
            del self.cursor_rows[series]
        self.gap_rows = {k: gap for k, gap in self.gap_rows.items() if gap.series != series or gap.since < since}
        self.seal_rows = {
            key: seal for key, seal in self.seal_rows.items() if seal.series != series or seal.day <= since - DAY_MS
        }
        return len(rows) - len(older)

    async def rates(self) -> list[Rate]:
        """Return the last known rate of each direction."""
        return [rate for _, rate in sorted(self._rates.items())]

    async def feed_gaps(self, since: int, until: int) -> list[FeedGap]:
        """Return feed gaps that overlap [since, until], oldest first."""
        return [gap for _, gap in sorted(self._feed_gaps.items()) if gap.until >= since and gap.since <= until]

    def hold_role(self, role: str, on_wait: Callable[[str], None], elected: bool) -> AbstractAsyncContextManager[Lease]:
        """Hold a role at once: no other process has this store."""
        return nullcontext(Lease())

    async def dead_letters(self, replay: bool = False) -> list[DeadLetter]:
        """Return dead letters, oldest first; with `replay` only those to be published again."""
        rows = sorted(self.dead_letter_rows.values(), key=lambda letter: (letter.time, letter.id))
        return [letter for letter in rows if letter.replay or not replay]

    async def count_dead_letters(self) -> int:
        """Return the number of dead letters."""
        return len(self.dead_letter_rows)

    async def request_replay(self, *ids: str) -> None:
        """Mark dead letters to be published again by the writer."""
        for key in self.dead_letter_rows.keys() & set(ids):
            self.dead_letter_rows[key] = replace(self.dead_letter_rows[key], replay=True)

    async def drop_dead_letters(self, *ids: str, replayed: bool = False) -> None:
        """Delete dead letters; with `replayed` only those marked for publishing that have not come back since."""
        for key in self.dead_letter_rows.keys() & set(ids):
            if self.dead_letter_rows[key].replay or not replayed:
                del self.dead_letter_rows[key]

    async def check(self) -> None:
        """Do nothing: a new store has this version's shape."""

    async def check_writable(self) -> None:
        """Do nothing: it can always be written."""

    async def ping(self) -> None:
        """Do nothing: it always responds."""

    async def close(self) -> None:
        """Do nothing: it has no connection."""


def _columns(series: Series) -> tuple[str, str, str]:
    return series.exchange, str(series.instrument), series.timeframe
