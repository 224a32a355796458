"""What the API's handlers share: one object of each kind in a process."""

from functools import cached_property

from services.api.accounts.composition import Accounts, compose_accounts
from services.api.analysis.analysis_cache import AnalysisCache
from services.api.analysis.latest_analysis import LatestAnalysis
from services.api.backfill_status import BackfillStatus
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.served_candles import ServedCandles
from services.api.candles.symbol_catalog import SymbolCatalog, configured_series
from services.api.indicators.column_reader import ColumnReader
from services.api.indicators.indicator_page_cache import IndicatorPageCache
from services.api.indicators.indicator_service import IndicatorService
from services.api.streams.composition import LiveStreams, compose_streams
from services.ports import Deps


class ApiComponents:
    """Objects with a cache or a subscription of their own. Each is made, and connected with the hub, when it is first
    used.
    """

    def __init__(self, deps: Deps) -> None:
        self.deps = deps

    @cached_property
    def symbols(self) -> SymbolCatalog:
        deps = self.deps
        catalog = SymbolCatalog(
            store=deps.store,
            cache=deps.cache,
            clock=deps.clock,
            configured=[*configured_series(deps.exchanges, deps.settings)],
            order=deps.settings.exchanges,
        )
        deps.hub.on_candle(catalog.on_candle)
        return catalog

    @cached_property
    def candles(self) -> ServedCandles:
        return ServedCandles(self.deps.store, self.deps.hub)

    @cached_property
    def pages(self) -> CandlePageCache:
        pages = CandlePageCache(cache=self.deps.cache, clock=self.deps.clock, reader=self.candles)
        self.deps.hub.on_candle(pages.on_candle)
        return pages

    @cached_property
    def columns(self) -> ColumnReader:
        reader = ColumnReader(self.pages, self.deps.clock)
        self.deps.hub.on_candle(reader.on_candle)
        return reader

    @cached_property
    def indicators(self) -> IndicatorService:
        pages = IndicatorPageCache(self.deps.cache, self.deps.clock)
        self.deps.hub.on_candle(pages.on_candle)
        return IndicatorService(self.columns, pages, self.deps.clock)

    @cached_property
    def analyses(self) -> LatestAnalysis:
        cache = AnalysisCache(self.deps.cache, self.deps.clock)
        self.deps.hub.on_candle(cache.on_candle)
        return LatestAnalysis(store=self.deps.store, clock=self.deps.clock, reader=self.columns, cache=cache)

    @cached_property
    def backfill(self) -> BackfillStatus:
        deps = self.deps
        return BackfillStatus(
            exchanges=deps.exchanges, settings=deps.settings, hub=deps.hub, bus=deps.bus, clock=deps.clock
        )

    @cached_property
    def accounts(self) -> Accounts:
        return compose_accounts(self.deps)

    @cached_property
    def streams(self) -> LiveStreams:
        return compose_streams(self.deps, self.symbols, self.backfill)
