"""`/api/chart-data`."""

from itertools import islice
from typing import NamedTuple

from services.api.candles import asked, rows, schemas
from services.api.candles.answers import CLOSED_MS, FORMING_MS, Ready, headers
from services.api.candles.listing import Listing
from services.api.candles.pages import Pages, settled
from services.api.candles.partials import Partial, partials
from services.api.loading import Backfill, Loading
from services.core import runs
from services.core.model import Candle, Series
from services.core.timeframes import Timeframe
from services.ports import Deps
from services.web import Kept


class _Question(NamedTuple):
    series: Series
    timeframe: Timeframe
    period: asked.Period
    fill: str
    partial: bool


class Charts:
    """Answers to `/api/chart-data`."""

    def __init__(self, deps: Deps, listing: Listing, pages: Pages, backfill: Backfill) -> None:
        self._listing, self._pages, self._backfill = listing, pages, backfill
        self._store, self._reader, self._now = deps.store, pages.reader, deps.clock.now

    async def build(self, query: bytes) -> Ready:
        """The answer to a query string. Raises KursError."""
        now = self._now()
        question = await self._understood(query, now)
        series, period = question.series, question.period
        changes = self._pages.changes[series]
        candles = await self._candles(question)
        loading = await self._loading(question, candles)
        parts = await self._partials(question, candles) if question.partial else []
        candles = _joined(period, candles, parts) if parts else candles
        slots = await self._filled(question, candles) if question.fill != "none" else candles
        closed = settled(question.timeframe, period.until, now) and loading is None and not parts
        changed = changes != self._pages.changes[series]  # what was read may be old already
        lasts = CLOSED_MS if closed and not changed else FORMING_MS
        since = period.since if period.since is not None else candles[0].bar.timestamp if candles else 0
        body = rows.body(str(series.instrument), series.timeframe, slots, loading)
        return Ready(series, since, period.until, lasts, Kept(body, headers(series.exchange, closed), packs=True))

    async def _understood(self, query: bytes, now: int) -> _Question:
        words = asked.words(query, schemas.ChartQuestion)
        symbol, timeframe = asked.one(words, "symbol", "BTCUSDT"), asked.timeframe(words)
        series = await self._listing.series(symbol, asked.one(words, "exchange"), timeframe.name)
        return _Question(series, timeframe, asked.period(words, now), asked.fill(words), asked.flag(words, "partial"))

    async def _candles(self, question: _Question) -> list[Candle]:
        series, (since, until, limit) = question.series, question.period
        if since is None:
            return await self._reader.last(series, until, limit or asked.MOST)
        if limit:
            return await self._reader.between(series, since, until, limit)
        asked.bounded(question.timeframe, since, until)
        return await self._pages.candles(series, since, until)

    async def _loading(self, question: _Question, candles: list[Candle]) -> Loading | None:
        """What is to be said of candles that are not there yet."""
        since, until, limit = question.period
        limit = limit or (asked.MOST if since is None else None)
        forming = sum(not candle.closed for candle in candles)
        return await self._backfill.check(
            question.series,
            (since, until, limit and limit - forming),
            lambda first: sum(candle.closed and candle.bar.timestamp >= first for candle in candles),
        )

    async def _partials(self, question: _Question, candles: list[Candle]) -> list[Partial]:
        """What is known of those that are missing where the answer may have them."""
        timeframe, (since, until, limit) = question.timeframe, question.period
        last = timeframe.opening(min(until, self._reader.forming_since(question.series) - 1))
        if since is None:
            first = timeframe.back(last, (limit or asked.MOST) - 1)
            first = min(first, candles[0].bar.timestamp) if candles else first
        else:
            first = next(timeframe.openings(since, until), last + 1)
            last = candles[-1].bar.timestamp if len(candles) == limit else last
        kept = runs.of(timeframe, (candle.bar.timestamp for candle in candles))
        missing = runs.without(timeframe, [(first, last)], kept) if first <= last else []
        return await partials(self._store, question.series, missing)

    async def _filled(self, question: _Question, candles: list[Candle]) -> list[Candle | rows.Missing]:
        """With a slot for each closed opening, as far as the candles go if a limit ended them."""
        timeframe, (since, until, limit) = question.timeframe, question.period
        most, last = limit or asked.MOST, min(until, timeframe.opening(self._now()) - 1)
        if since is not None and len(candles) == limit:
            last = candles[-1].bar.timestamp
        first = timeframe.back(timeframe.opening(last), most - 1) if since is None else since
        before = next(iter(await self._reader.last(question.series, first - 1, 1)), None)
        if before is None:  # years may lie before the first candle: nothing is said of them
            first = candles[0].bar.timestamp if candles else last + 1
        openings = islice(timeframe.openings(first, last), most)
        slots = rows.filled(candles, openings, before, question.fill == "prev")
        slots += [candle for candle in candles if candle.bar.timestamp > last]
        return slots[-most:] if since is None else slots[:most]


def _joined(period: asked.Period, candles: list[Candle], parts: list[Partial]) -> list[Candle]:
    """Both in their order, as many as the answer may have."""
    joined = sorted([*candles, *parts], key=lambda candle: candle.bar.timestamp)
    most = period.limit or asked.MOST
    return joined[-most:] if period.since is None else joined[:most]
