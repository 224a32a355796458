"""A store in memory, of candles, what belongs to them and what they come to: for tests that try thousands of ways."""

from typing import Any

from services.core import ranges
from services.core.analysis import Analysis
from services.core.dead_letters import DeadLetter
from services.core.errors import Unavailable
from services.core.minute_builder import TradeCursor
from services.core.model import Candle, CandleGap, CandleGapState, IndicatorValue, Series
from services.core.seals import Seal
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer.batch_processor import Change


class MemoryStore:
    """Fails as often as `failures` says, before or after the commit in turn."""

    def __init__(self) -> None:
        self.rows: dict[Series, dict[int, Candle]] = {}
        self.cursor_rows: dict[Series, TradeCursor] = {}
        self.gap_rows: dict[tuple[Series, int], CandleGap] = {}
        self.seal_rows: dict[tuple[Series, int], Seal] = {}
        self.value_rows: dict[Series, dict[tuple[int, str], IndicatorValue]] = {}
        self.analysis_rows: dict[Series, dict[int, Analysis]] = {}
        self.dead_letter_rows: dict[str, DeadLetter] = {}
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tests do not need {name} of a store")

    async def save(self, *items: Change | IndicatorValue | Analysis) -> None:
        self.failures -= 1
        if self.failures >= 0 and self.failures % 2:
            raise Unavailable("not committed")
        for item in items:
            match item:
                case Candle():
                    self.rows.setdefault(item.series, {})[item.bar.open_time] = item
                case TradeCursor():
                    self.cursor_rows[item.series] = item
                case CandleGap():
                    self.gap_rows[item.series, item.since] = item
                case Seal():
                    self.seal_rows[item.series, item.day] = item
                case IndicatorValue():
                    self.value_rows.setdefault(item.series, {})[item.open_time, item.indicator] = item
                case DeadLetter():
                    self.dead_letter_rows[item.id] = item
                case Analysis():
                    self.analysis_rows.setdefault(item.series, {})[item.open_time or 0] = item
        if self.failures >= 0:
            raise Unavailable("committed, but nobody heard")

    async def candles(
        self, series: Series, since: int, until: int, limit: int | None = None, *, forming_since: int | None = None
    ) -> list[Candle]:
        rows = self.rows.get(series, {})
        found = (rows[opening] for opening in sorted(rows) if since <= opening <= until)
        bound = -(2**62) if forming_since is None else forming_since
        return [row for row in found if row.closed or row.bar.open_time >= bound][:limit]

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        return (await self.candles(series, 0, until, forming_since=forming_since))[-count:]

    async def series(self) -> dict[Series, tuple[int, int]]:
        return {series: (min(rows), max(rows)) for series, rows in self.rows.items()}

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        rows, runs = self.rows.get(series, {}), list[tuple[int, int]]()
        previous = None
        for opening in TIMEFRAMES[series.timeframe].open_times(since, until):
            if not (opening in rows and rows[opening].closed):
                joined = runs and runs[-1][1] == previous
                runs[-1:] = [(runs[-1][0], opening)] if joined else [*runs[-1:], (opening, opening)]
            previous = opening
        return runs

    async def unconfirmed_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        found = [c for c in await self.candles(series, since, until) if c.closed and c.source == "ticks"]
        return ranges.from_open_times(TIMEFRAMES[series.timeframe], (candle.bar.open_time for candle in found))

    async def dead_letters(self, replay: bool = False) -> list[DeadLetter]:
        return [letter for letter in self.dead_letter_rows.values() if letter.replay or not replay]

    async def count_dead_letters(self) -> int:
        return len(self.dead_letter_rows)

    async def cursors(self) -> list[TradeCursor]:
        return list(self.cursor_rows.values())

    async def candle_gaps(
        self, state: CandleGapState, series: Series | None = None, limit: int | None = None
    ) -> list[CandleGap]:
        return [h for h in self.gap_rows.values() if h.state is state and series in (None, h.series)][-(limit or 0) :]

    async def indicator_values(self, series: Series, since: int, until: int) -> list[IndicatorValue]:
        rows = self.value_rows.get(series, {})
        return [rows[each] for each in sorted(rows) if since <= each[0] <= until]

    async def analyses(self, series: Series, since: int, until: int) -> list[Analysis]:
        rows = self.analysis_rows.get(series, {})
        return [rows[opening] for opening in sorted(rows) if since <= opening <= until]

    async def delete_derived(self, series: Series, since: int, until: int) -> None:
        said, come_to = self.value_rows.get(series, {}), self.analysis_rows.get(series, {})
        self.value_rows[series] = {key: row for key, row in said.items() if not since <= key[0] <= until}
        self.analysis_rows[series] = {key: row for key, row in come_to.items() if not since <= key <= until}

    async def delete_indicator_values(self, series: Series) -> None:
        self.value_rows.pop(series, None)

    async def delete_candles(self, series: Series, since: int) -> int:
        rows = self.rows.get(series, {})
        self.rows[series] = {opening: row for opening, row in rows.items() if opening < since}
        self.cursor_rows = {
            key: cursor for key, cursor in self.cursor_rows.items() if key != series or cursor.time < since
        }
        return len(rows) - len(self.rows[series])

    async def seals(self, series: Series, since: int, until: int) -> list[Seal]:
        found = [seal for (each, day), seal in self.seal_rows.items() if each == series and since <= day <= until]
        return sorted(found, key=lambda seal: seal.day)


def as_store(kept: MemoryStore) -> Store:
    """For those who ask for the whole port."""
    return kept  # type: ignore[return-value]  # rates and gaps are not kept
