"""`/api/candles/coverage`: which candles are missing, and why."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from msgspec.structs import replace

from services.api.candles import reasons, schemas
from services.api.candles.candle_query import CandleRange
from services.api.candles.schemas import CoverageQuery
from services.api.candles.symbol_catalog import CatalogSymbol, configured_series
from services.api.components import ApiComponents
from services.api.exchange_status import current_status
from services.core import history_depth, ranges
from services.core.coverage import SeriesCoverage
from services.core.errors import BadRange, unknown_name
from services.core.model import CandleGap, CandleGapState, FeedGap, Series
from services.core.timeframes import TIMEFRAMES
from services.web import Content, Endpoint, Ttl, public

MAX_OPEN_TIMES = 600_000  # in one request: a year of minutes
MAX_GAPS = 10_000  # in one response
FIRST_OPEN_TIMES_TTL_MS = 5_000  # in which the first open times are not read again
DEFAULT_OPEN_TIMES = 1000  # of each series, without `from`
MISSING_STATES = ("open", "unnoticed")
COUNTS = ("expected", "present", "missing", "repaired", "empty", "revised")
COVERAGE = Endpoint(
    path="/api/candles/coverage",
    aliases=("/v1/candles/coverage",),
    query=CoverageQuery,
    response=schemas.Coverage,
    cache=Ttl(1_000, max_entries=16),
    cost=10,  # it reads more than it returns
    tag="candles",
    operation_id="coverage",
    summary="What is missing, and why",
    description="How many closed candles there should be and are, and every gap. Without `from`: of the newest 1,000.",
)


class CoverageHandler:
    """Coverage of one series, of a symbol's, or of all."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols, self._backfill, deps = parts.symbols, parts.backfill, parts.deps
        self._hub, self._history_bars = deps.hub, deps.settings.history_bars
        self._store, self._now, self._monotonic = deps.store, deps.clock.now, deps.clock.monotonic
        exchanges = {exchange.name: exchange for exchange in deps.exchanges}
        self._sources = {
            series[:2]: exchanges[series.exchange] for series in configured_series(deps.exchanges, deps.settings)
        }
        self._one_at_a_time = asyncio.Semaphore(1)  # each request reads much from the database
        self._first_open_times_read_at = -FIRST_OPEN_TIMES_TTL_MS
        self._first_open_times: dict[Series, int] = {}
        self._absent_gaps: dict[Series, list[CandleGap]] = {}

    @COVERAGE.handler
    async def coverage(self, query: CoverageQuery) -> Content:
        """Return the coverage. Raises KursError."""
        now = self._now()
        selected, period = await self._selected(query), query.candle_range(now)
        async with self._one_at_a_time:
            if period.since is None and self._monotonic() - self._first_open_times_read_at >= FIRST_OPEN_TIMES_TTL_MS:
                await self._load_first_open_times()
            spans = self._spans(selected, period, now)
            lost = await self._store.feed_gaps(min((since for since, _ in spans.values()), default=now), now)
            coverages = [await self._store.coverage(series, *span) for series, span in spans.items()]
            for series in spans if query.symbol else ():  # a query about everything does not make any of it urgent
                if self._backfill.progress(series):
                    await self._backfill.request(series, *spans[series])
            return await asyncio.to_thread(self._build_response, coverages, lost, now)

    def _build_response(self, coverages: Sequence[SeriesCoverage], lost: Sequence[FeedGap], now: int) -> Content:
        """Runs in a thread: there may be as many gaps as candles."""
        gaps = list[schemas.Gap]()
        counts = [count_series(each, self._backfill.progress(each.series) is not None) for each in coverages]
        for coverage in coverages:
            gaps += islice(self._gaps(coverage, lost, now), MAX_GAPS + 1 - len(gaps))
        if len(gaps) > MAX_GAPS:
            raise BadRange(f"there are more than {MAX_GAPS} gaps: request a shorter range, or fewer series")
        gaps.sort(key=lambda gap: gap.since)
        totals = {name: sum(getattr(row, name) for row in counts) for name in COUNTS}
        body = schemas.Coverage(time=now, gaps=gaps, series=counts, **totals).model_dump_json().encode()
        return Content(body, public(1))

    async def _load_first_open_times(self) -> None:
        """Load how far back each series is stored, and which candles the exchanges do not have."""
        self._first_open_times = {series: first for series, (first, _) in (await self._store.series()).items()}
        self._absent_gaps = {}
        for gap in await self._store.candle_gaps(CandleGapState.ABSENT):
            self._absent_gaps.setdefault(gap.series, []).append(gap)
        self._first_open_times_read_at = self._monotonic()

    def _spans(self, selected: Sequence[Series], period: CandleRange, now: int) -> dict[Series, tuple[int, int]]:
        """Return the first and last closed open time of each series that has any; without `from` of the newest ones.

        Raises BadRange for more than one response can cover.
        """
        spans, count = {}, 0
        for series in selected:
            timeframe = TIMEFRAMES[series.timeframe]
            since, until = period.since, timeframe.open_time(min(period.until, timeframe.open_time(now) - 1))
            if since is None:
                due = self._first_expected(series, until)
                first = min(due, self._first_open_times.get(series, due))
                since = max(timeframe.step_back(until, DEFAULT_OPEN_TIMES - 1), first)
            if since <= until:
                spans[series] = since, until
                count += timeframe.count_between(since, until)
        if count > MAX_OPEN_TIMES:
            raise BadRange(
                f"{count} candles of {len(spans)} series would be looked at, at most {MAX_OPEN_TIMES}: "
                f"name a symbol and a "
                "timeframe, or request a shorter range"
            )
        return spans

    def _first_expected(self, series: Series, until: int) -> int:
        """Return the first open time that should be stored: configured, and one that the exchange has."""
        timeframe, exchange = TIMEFRAMES[series.timeframe], self._sources.get(series[:2])
        native = exchange.kline_timeframes(series.instrument) if exchange else ()
        if exchange is None or series.timeframe not in native:
            return timeframe.close_time(until)
        first = history_depth.first_wanted(exchange, series.timeframe, until, self._history_bars, native)
        for gap in self._absent_gaps.get(series, ()):  # oldest first
            if gap.since <= first <= gap.until:
                first = timeframe.close_time(gap.until)
        return first

    def _gaps(self, coverage: SeriesCoverage, lost: Sequence[FeedGap], now: int) -> Iterator[schemas.Gap]:
        """Return the gaps of a series with the reasons, also those that no scan has detected."""
        series = coverage.series
        for gap, state in gaps_with_states(coverage):
            why = reasons.feed_gap_reasons(gap, lost)
            if state in MISSING_STATES:
                status = current_status(self._hub, series.exchange, self._monotonic())
                loading = self._backfill.progress(series)
                why += reasons.pending_reasons(gap, self._sources.get(series[:2]), status, loading, now)
            yield _gap_row(gap, state, why)

    async def _selected(self, query: CoverageQuery) -> list[Series]:
        name, exchange, only = query.symbol, query.exchange, query.timeframe
        symbols: Sequence[CatalogSymbol] = await self._symbols.symbols()
        if name and only:
            return [await self._symbols.series(name, exchange, only)]
        if name:
            symbols = [await self._symbols.find(name, exchange)]
        elif exchange:
            exchanges = list(dict.fromkeys(symbol.exchange for symbol in symbols))
            if exchange.lower() not in exchanges:
                raise unknown_name("exchange", exchange, exchanges)
            symbols = [symbol for symbol in symbols if symbol.exchange == exchange.lower()]
        return [
            symbol.series(timeframe) for symbol in symbols for timeframe in symbol.timeframes if only in ("", timeframe)
        ]


def count_series(coverage: SeriesCoverage, loading: bool) -> schemas.Counts:
    """Return the counts of one series."""
    timeframe = TIMEFRAMES[coverage.series.timeframe]
    spans = [(gap.since, gap.until) for gap in coverage.gaps if gap.state is CandleGapState.REPAIRED]
    repaired = sum(
        timeframe.count_between(max(since, coverage.since), min(until, coverage.until))
        for since, until in _merge_spans(spans)
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
        loading=loading,
    )


def gaps_with_states(coverage: SeriesCoverage) -> Iterator[tuple[CandleGap, str]]:
    """Return the gaps of a series with their states: repaired ones, and the missing candles, each open time once."""
    timeframe, left = TIMEFRAMES[coverage.series.timeframe], coverage.missing
    for gap in coverage.gaps:
        if gap.state is CandleGapState.REPAIRED:
            yield gap, gap.state
    for state in (CandleGapState.ABSENT, CandleGapState.OPEN):
        for gap in (each for each in coverage.gaps if each.state is state):
            rest = tuple(ranges.subtract(timeframe, left, [(gap.since, gap.until)]))
            for since, until in ranges.subtract(timeframe, left, rest):
                yield replace(gap, since=since, until=until), state
            left = rest
    for since, until in left:
        yield CandleGap(coverage.series, since, until, 0), "unnoticed"


def _gap_row(gap: CandleGap, state: str, why: Sequence[str]) -> schemas.Gap:
    series, timeframe = gap.series, TIMEFRAMES[gap.series.timeframe]
    return schemas.Gap(
        **_names(series),
        since=gap.since,
        until=gap.until,
        candles=timeframe.count_between(gap.since, gap.until),
        state=state,
        noticed=gap.detected or None,
        settled=gap.resolved,
        origin=gap.repaired_from,
        reasons=list(why),
    )


def _names(series: Series) -> dict[str, str]:
    return {"exchange": series.exchange, "symbol": str(series.instrument), "timeframe": series.timeframe}


def _merge_spans(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for since, until in sorted(spans):
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(until, merged[-1][1]))
        else:
            merged.append((since, until))
    return merged
