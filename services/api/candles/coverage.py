"""`/api/candles/coverage`: at one address, what is missing and why."""

from collections.abc import Iterable, Iterator, Sequence

from services.api.candles import asked, schemas
from services.api.candles.listing import Listing, Symbol
from services.core import model, runs
from services.core.errors import unknown_name
from services.core.model import Hole, HoleState, Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps
from services.web import Kept

RECENT = 1000  # openings that are looked at when no `from` says otherwise
COUNTS = ("expected", "present", "missing", "repaired", "empty", "revised")
HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"public, max-age=1"),
    (b"vary", b"Origin, Accept-Encoding"),
]


class Ledger:
    """Coverage of one series, of a symbol's, or of all."""

    def __init__(self, deps: Deps, listing: Listing) -> None:
        self._listing, self._store, self._now = listing, deps.store, deps.clock.now

    async def coverage(self, query: bytes) -> Kept:
        """The answer to a query string. Raises KursError."""
        now, words = self._now(), asked.words(query)
        period = asked.period(words, now)
        known = await self._store.series()
        spans = {
            series: openings(TIMEFRAMES[series.timeframe], period, now, known.get(series))
            for series in await self._selected(words)
        }
        lost = await self._store.gaps(min((since for since, _ in spans.values()), default=now), now)
        counts, gaps = list[schemas.Counts](), list[schemas.Gap]()
        for series, span in spans.items():
            coverage = await self._store.coverage(series, *span)
            counts.append(counted(coverage))
            gaps += holes(coverage, lost)
        gaps.sort(key=lambda gap: gap.since)
        totals = {name: sum(getattr(row, name) for row in counts) for name in COUNTS}
        body = schemas.Coverage(time=now, gaps=gaps, series=counts, **totals).model_dump_json().encode()
        return Kept(body, HEADERS, packs=True)

    async def _selected(self, words: asked.Words) -> list[Series]:
        name, exchange = asked.one(words, "symbol"), asked.one(words, "exchange")
        symbols: Sequence[Symbol] = await self._listing.symbols()
        if name:
            symbols = [await self._listing.find(name, exchange)]
        elif exchange:
            exchanges = list(dict.fromkeys(symbol.exchange for symbol in symbols))
            if exchange.lower() not in exchanges:
                raise unknown_name("exchange", exchange, exchanges)
            symbols = [symbol for symbol in symbols if symbol.exchange == exchange.lower()]
        only = asked.timeframe(words).name if "timeframe" in words else None
        return [
            symbol.series(timeframe)
            for symbol in symbols
            for timeframe in ((only,) if name and only else symbol.timeframes)
            if only in (None, timeframe)
        ]


def openings(timeframe: Timeframe, period: asked.Period, now: int, kept: tuple[int, int] | None) -> tuple[int, int]:
    """The first and last closed opening to look at. Without `from` the newest, none before the first that is kept."""
    until = timeframe.opening(min(period.until, timeframe.opening(now) - 1))
    if period.since is not None:
        return period.since, until
    since = timeframe.back(until, RECENT - 1)
    return max(since, kept[0]) if kept else since, until


def counted(coverage: model.Coverage) -> schemas.Counts:
    """One series in numbers."""
    timeframe = TIMEFRAMES[coverage.series.timeframe]
    spans = [(hole.since, hole.until) for hole in coverage.holes if hole.state is HoleState.REPAIRED]
    repaired = sum(
        timeframe.expected(max(since, coverage.since), min(until, coverage.until)) for since, until in _merged(spans)
    )
    return schemas.Counts(
        **_names(coverage.series),
        since=coverage.since,
        until=coverage.until,
        expected=coverage.expected,
        present=coverage.present,
        missing=coverage.expected - coverage.present,
        repaired=repaired,
        empty=coverage.empty,
        revised=coverage.revised,
    )


def holes(coverage: model.Coverage, lost: Sequence[model.Gap]) -> Iterator[schemas.Gap]:
    """The holes of a series, and what is missing without having been noticed, with what was lost at that time."""
    timeframe = TIMEFRAMES[coverage.series.timeframe]
    noticed = [(hole.since, hole.until) for hole in coverage.holes if hole.state is not HoleState.REPAIRED]
    for hole in coverage.holes:
        yield _gap(hole, hole.state, lost)
    for since, until in runs.without(timeframe, coverage.missing, noticed):
        yield _gap(Hole(coverage.series, since, until, 0), "unnoticed", lost)


def _gap(hole: Hole, state: str, lost: Sequence[model.Gap]) -> schemas.Gap:
    series, timeframe = hole.series, TIMEFRAMES[hole.series.timeframe]
    end = timeframe.closing(hole.until)
    reasons = (
        gap.reason
        for gap in lost
        if gap.exchange == series.exchange
        and gap.instrument in (None, series.instrument)
        and gap.since < end
        and gap.until >= hole.since
    )
    return schemas.Gap(
        **_names(series),
        since=hole.since,
        until=hole.until,
        candles=timeframe.expected(hole.since, hole.until),
        state=state,
        noticed=hole.noticed or None,
        settled=hole.settled,
        origin=hole.origin,
        reasons=list(dict.fromkeys(reasons)),
    )


def _names(series: Series) -> dict[str, str]:
    return {"exchange": series.exchange, "symbol": str(series.instrument), "timeframe": series.timeframe}


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for since, until in sorted(spans):
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(until, merged[-1][1]))
        else:
            merged.append((since, until))
    return merged
