"""What the API's handlers share: one object of each kind in a process."""

from functools import cached_property

from services.api.accounts.composition import Accounts, compose_accounts
from services.api.backfill_status import BackfillStatus
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.indicators.column_reader import ColumnReader
from services.api.streams.composition import LiveStreams, compose_streams
from services.ports import Deps


class ApiComponents:
    """Objects with a cache or a subscription of their own. Each is made when it is first used."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps

    @cached_property
    def symbols(self) -> SymbolCatalog:
        return SymbolCatalog(self.deps)

    @cached_property
    def pages(self) -> CandlePageCache:
        return CandlePageCache(self.deps)

    @cached_property
    def columns(self) -> ColumnReader:
        return ColumnReader(self.deps, self.pages)

    @cached_property
    def backfill(self) -> BackfillStatus:
        return BackfillStatus(self.deps)

    @cached_property
    def accounts(self) -> Accounts:
        return compose_accounts(self.deps)

    @cached_property
    def streams(self) -> LiveStreams:
        return compose_streams(self.deps, self.symbols, self.backfill)
