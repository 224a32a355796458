"""`/api/indicators`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from services.api.backfill_status import Backfill, Loading
from services.api.candles import candle_page_cache
from services.api.candles import candle_query as candles_asked
from services.api.candles.answers import CLOSED_MS, FORMING_MS, Ready, headers
from services.api.candles.symbol_catalog import Listing
from services.api.indicators.column_reader import MONTH, History, Past
from services.api.indicators.indicator_service import Marks, Work
from services.api.indicators.output_columns import Line
from services.api.indicators.schemas import IndicatorsQuestion
from services.core import indicators
from services.core.indicators import CATALOG, Asked
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps
from services.web import Kept


class _Question(NamedTuple):
    series: Series
    period: candles_asked.Period
    asked: tuple[Asked, ...]
    future: bool

    @property
    def timeframe(self) -> Timeframe:
        return TIMEFRAMES[self.series.timeframe]

    @property
    def until(self) -> int:
        """The last opening whose candle the answer may be made of."""
        return self.period.until + max(map(indicators.ahead, self.asked)) * (self.timeframe.length or MONTH)

    def since(self, first: int) -> int:
        """The first opening whose candle the answer from `first` on is made of, if none is missing."""
        count = max(indicators.warmup(each, self.timeframe, first) for each in self.asked)
        return self.timeframe.back(first, min(count, self.timeframe.expected(0, first)))


class Readings:
    """Answers to `/api/indicators`."""

    def __init__(self, deps: Deps, listing: Listing, history: History, backfill: Backfill, work: Work) -> None:
        self._listing, self._history, self._work, self._backfill = listing, history, work, backfill
        self._pages, self._now = history.pages, deps.clock.now

    async def build(self, query: bytes) -> Ready:
        """The answer to a query string. Raises KursError."""
        now = self._now()
        question = await self._understood(query, now)
        series = question.series
        changes = self._pages.changes[series]
        past = await self._candles(question)
        found = await self._found(question, past)
        futures = await self._futures(question, past)
        loading = await self._loading(question, past)
        closed = candle_page_cache.settled(question.timeframe, question.until, now) and loading is None
        changed = changes != self._pages.changes[series]  # what was read may be old already
        lasts = CLOSED_MS if closed and not changed else FORMING_MS
        trusted = past.closed.size and all(each.trusted is None for each in found.values())
        since = question.since(int(past.columns.time[0])) if trusted else 0
        kept = Kept(_body(series, past, found, futures, loading), headers(series.exchange, closed), packs=True)
        return Ready(series, since, question.until, lasts, kept)

    async def _understood(self, query: bytes, now: int) -> _Question:
        words = candles_asked.words(query, IndicatorsQuestion)
        symbol = await self._listing.find(
            candles_asked.one(words, "symbol", "BTCUSDT"), candles_asked.one(words, "exchange")
        )
        series = symbol.series(candles_asked.timeframe(words).name)
        asked = indicators.parse(",".join(words.get("indicators", ())))
        return _Question(series, candles_asked.period(words, now), asked, candles_asked.flag(words, "future"))

    async def _candles(self, question: _Question) -> Past:
        series, (since, until, limit) = question.series, question.period
        if since is None:
            return await self._history.last(series, until, limit or candles_asked.MOST)
        if limit:
            return (await self._history.after(series, since - 1, limit)).between(since, until)
        candles_asked.bounded(question.timeframe, since, until)
        return await self._history.between(series, since, until)

    async def _loading(self, question: _Question, past: Past) -> Loading | None:
        """What is to be said of candles that are not there yet."""
        since, until, limit = question.period
        limit = limit or (candles_asked.MOST if since is None else None)
        forming = int(np.count_nonzero(~past.closed))
        return await self._backfill.check(
            question.series,
            (since, until, limit and limit - forming),
            lambda first: int(np.count_nonzero(past.closed & (past.columns.time >= first))),
        )

    async def _found(self, question: _Question, past: Past) -> dict[Asked, Line | Marks]:
        """What each indicator says, in the order in which they are asked for; nothing without candles."""
        time = past.columns.time
        if not time.size:
            return {}
        lines = [each for each in question.asked if not CATALOG[each.name].levels]
        levels = [each for each in question.asked if CATALOG[each.name].levels]
        found: dict[Asked, Line | Marks] = {**await self._work.lines(question.series, lines, time)}
        found |= await self._work.levels(question.series, levels, int(time[-1]))
        return {each: found[each] for each in question.asked}

    async def _futures(self, question: _Question, past: Past) -> dict[Asked, Line]:
        """What is known of the openings after the last candle, if it is asked for."""
        if not question.future or not past.columns.time.size:
            return {}
        return await self._work.futures(question.series, question.asked, int(past.columns.time[-1]))


def _body(
    series: Series,
    past: Past,
    found: Mapping[Asked, Line | Marks],
    futures: Mapping[Asked, Line],
    loading: Loading | None,
) -> bytes:
    more = {"loading": loading._asdict()} if loading else {}
    time, timeframe = past.columns.time.tolist(), TIMEFRAMES[series.timeframe]
    return msgspec.json.encode(
        {
            "symbol": str(series.instrument),
            "timeframe": series.timeframe,
            "timestamps": time,
            "closed": past.closed.tolist(),
            "indicators": [_row(each, values, futures.get(each), timeframe, time) for each, values in found.items()],
            **more,
        }
    )


def _row(
    asked: Asked, found: Line | Marks, future: Line | None, timeframe: Timeframe, time: Sequence[int]
) -> dict[str, Any]:
    known = CATALOG[asked.name]
    if isinstance(found, Line):
        said: dict[str, Any] = {"outputs": _columns(found)}
        opening = time[0]
    else:
        said = {"levels": [{"name": each.name, "price": each.price, **each.known} for each in found.levels]}
        opening = time[-1]
    if future:
        said["future"] = {"timestamps": future.time.tolist(), "outputs": _columns(future)}
    return {
        "indicator": str(asked),
        "name": asked.name,
        "parameters": asked.named,
        "overlay": known.overlay,
        **said,
        "warmup": indicators.warmup(asked, timeframe, opening),
        "trusted_from": found.trusted,
    }


def _columns(line: Line) -> dict[str, list[float]]:
    """Values by output; msgspec writes null where a float is none."""
    return {name: column.tolist() for name, column in line.values.items()}
