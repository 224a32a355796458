"""A store in memory, of candles, what belongs to them and what they come to: for tests that try thousands of ways."""

from typing import Any

from services.core import ranges
from services.core.analysis import Analysis
from services.core.dead_letters import DeadLetter
from services.core.errors import Unavailable
from services.core.minute_builder import Cursor
from services.core.model import Candle, Hole, HoleState, Reading, Series
from services.core.seals import Seal
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer.batch_processor import Item


class Kept:
    """Fails as often as `failures` says, before or after the commit in turn."""

    def __init__(self) -> None:
        self.rows: dict[Series, dict[int, Candle]] = {}
        self.progress: dict[Series, Cursor] = {}
        self.noticed: dict[tuple[Series, int], Hole] = {}
        self.chain: dict[tuple[Series, int], Seal] = {}
        self.said: dict[Series, dict[tuple[int, str], Reading]] = {}
        self.come_to: dict[Series, dict[int, Analysis]] = {}
        self.dead: dict[str, DeadLetter] = {}
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tests do not need {name} of a store")

    async def save(self, *items: Item | Reading | Analysis) -> None:
        self.failures -= 1
        if self.failures >= 0 and self.failures % 2:
            raise Unavailable("not committed")
        for item in items:
            match item:
                case Candle():
                    self.rows.setdefault(item.series, {})[item.bar.timestamp] = item
                case Cursor():
                    self.progress[item.series] = item
                case Hole():
                    self.noticed[item.series, item.since] = item
                case Seal():
                    self.chain[item.series, item.day] = item
                case Reading():
                    self.said.setdefault(item.series, {})[item.timestamp, item.indicator] = item
                case DeadLetter():
                    self.dead[item.id] = item
                case Analysis():
                    self.come_to.setdefault(item.series, {})[item.timestamp or 0] = item
        if self.failures >= 0:
            raise Unavailable("committed, but nobody heard")

    async def candles(
        self, series: Series, since: int, until: int, limit: int | None = None, *, forming_since: int | None = None
    ) -> list[Candle]:
        rows = self.rows.get(series, {})
        found = (rows[opening] for opening in sorted(rows) if since <= opening <= until)
        bound = -(2**62) if forming_since is None else forming_since
        return [row for row in found if row.closed or row.bar.timestamp >= bound][:limit]

    async def last(self, series: Series, until: int, count: int, *, forming_since: int | None = None) -> list[Candle]:
        return (await self.candles(series, 0, until, forming_since=forming_since))[-count:]

    async def series(self) -> dict[Series, tuple[int, int]]:
        return {series: (min(rows), max(rows)) for series, rows in self.rows.items()}

    async def missing(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        rows, runs = self.rows.get(series, {}), list[tuple[int, int]]()
        previous = None
        for opening in TIMEFRAMES[series.timeframe].openings(since, until):
            if not (opening in rows and rows[opening].closed):
                joined = runs and runs[-1][1] == previous
                runs[-1:] = [(runs[-1][0], opening)] if joined else [*runs[-1:], (opening, opening)]
            previous = opening
        return runs

    async def unverified(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        found = [c for c in await self.candles(series, since, until) if c.closed and c.source == "ticks"]
        return ranges.of(TIMEFRAMES[series.timeframe], (candle.bar.timestamp for candle in found))

    async def dead_letters(self, replay: bool = False) -> list[DeadLetter]:
        return [letter for letter in self.dead.values() if letter.replay or not replay]

    async def count_dead_letters(self) -> int:
        return len(self.dead)

    async def cursors(self) -> list[Cursor]:
        return list(self.progress.values())

    async def holes(self, state: HoleState, series: Series | None = None, limit: int | None = None) -> list[Hole]:
        return [h for h in self.noticed.values() if h.state is state and series in (None, h.series)][-(limit or 0) :]

    async def readings(self, series: Series, since: int, until: int) -> list[Reading]:
        rows = self.said.get(series, {})
        return [rows[each] for each in sorted(rows) if since <= each[0] <= until]

    async def analyses(self, series: Series, since: int, until: int) -> list[Analysis]:
        rows = self.come_to.get(series, {})
        return [rows[opening] for opening in sorted(rows) if since <= opening <= until]

    async def forget(self, series: Series, since: int, until: int) -> None:
        said, come_to = self.said.get(series, {}), self.come_to.get(series, {})
        self.said[series] = {key: row for key, row in said.items() if not since <= key[0] <= until}
        self.come_to[series] = {key: row for key, row in come_to.items() if not since <= key <= until}

    async def delete_candles(self, series: Series, since: int) -> int:
        rows = self.rows.get(series, {})
        self.rows[series] = {opening: row for opening, row in rows.items() if opening < since}
        self.progress = {key: cursor for key, cursor in self.progress.items() if key != series or cursor.time < since}
        return len(rows) - len(self.rows[series])

    async def seals(self, series: Series, since: int, until: int) -> list[Seal]:
        found = [seal for (each, day), seal in self.chain.items() if each == series and since <= day <= until]
        return sorted(found, key=lambda seal: seal.day)


def as_store(kept: Kept) -> Store:
    """For those who ask for the whole port."""
    return kept  # type: ignore[return-value]  # rates and gaps are not kept
