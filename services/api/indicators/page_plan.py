"""Which pages of an indicator come from the shared cache, and what has to be computed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from services.api.indicators.indicator_page_cache import PageKey
from services.api.indicators.output_columns import OutputColumns, compute_outputs, concat_outputs
from services.core.indicators import IndicatorSpec, OhlcvColumns
from services.core.timeframes import Timeframe


class PagePlan(NamedTuple):
    """How the outputs of one indicator along the candles [first, last] come about.

    Only pages whose candles are final are cached. Candles after the last of these are computed for each response. An
    example: pages of 1m have 500 candles, and a range begins in page A, goes on in page B, and ends with the forming
    candle in page C, which is not final. A is in the cache, B is not:

        page          A: 0 to 499        B: 500 to 999       C: from 1000 on
        range              100 ─────────────────────────────── 1100
        source        cache              computed            computed

        plan = PagePlan.make(spec, (100, 1100), [0, 500], {(spec, 0): A}, 500)
        plan.cached        [A]
        plan.missing       [500]
        plan.since         500     the start of B, so that the whole page can be cached
        plan.until         1100

    After `plan.compute` has returned the outputs from 500 to 1100, `plan.new_pages` cuts B out of them for the cache,
    and `plan.outputs` joins A with them and cuts the result to the range. If A is missing and B is cached, everything
    from 0 on is computed: one long run of the arithmetic is cheaper than two. If both are cached, only 1000 to 1100 is
    computed. Here times are counted in candles; in the code they are in ms.
    """

    spec: IndicatorSpec
    first: int
    last: int
    page_ms: int
    cached: list[OutputColumns]  # pages before `since`
    missing: list[int]  # starts of final pages that are not in the cache
    since: int
    until: int

    @classmethod
    def make(
        cls,
        spec: IndicatorSpec,
        span: tuple[int, int],
        starts: Sequence[int],
        cached: Mapping[PageKey, OutputColumns],
        page_ms: int,
    ) -> "PagePlan":
        """Return the plan for a range. `starts` are the starts of its final pages, `cached` those in the cache."""
        first, last = span
        missing = [start for start in starts if (spec, start) not in cached]
        end = starts[-1] + page_ms if starts else first
        since, until = (missing[0], max(last, end - 1)) if missing else (end, last)
        before = [cached[spec, start] for start in starts if start < since]
        return cls(spec, first, last, page_ms, before, missing, since, until)

    @property
    def needs_computing(self) -> bool:
        """Whether the cache lacks anything."""
        return self.since <= self.until

    def compute(self, columns: OhlcvColumns, timeframe: Timeframe) -> OutputColumns:
        """Return the outputs along [since, until]. `columns` are these candles and those that they depend on."""
        return compute_outputs(self.spec, columns, timeframe, self.since, self.until)

    def new_pages(self, computed: OutputColumns) -> Iterator[tuple[PageKey, OutputColumns]]:
        """Return the missing pages, to be cached."""
        for start in self.missing:
            yield (self.spec, start), computed.between(start, start + self.page_ms - 1)

    def outputs(self, computed: OutputColumns | None) -> OutputColumns:
        """Return the outputs along [first, last]. `computed` is None if nothing had to be computed."""
        parts = [*self.cached, *([] if computed is None else [computed])]
        return concat_outputs(parts).between(self.first, self.last)
