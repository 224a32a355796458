"""TradingView's UDF protocol: its charts read Kurs unchanged. Times are seconds, errors `{"s": "error"}` with 200."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from services.api.backfill_status import LoadingStatus
from services.api.candles.candle_query import MAX_CANDLES, CandleRange
from services.api.candles.symbol_catalog import CatalogSymbol
from services.api.candles.udf_query import (
    INTRADAY,
    RESOLUTIONS,
    HistoryQuery,
    QuotesQuery,
    RangeOfBars,
    SearchQuery,
    SymbolQuery,
    UdfQuery,
)
from services.api.candles.udf_quotes import UdfQuotes
from services.api.components import ApiComponents
from services.core.decimals import format_decimal
from services.core.errors import BadRange, BadRequest, KursError, UnknownName
from services.core.model import Bar, Candle, CandleGap, Series
from services.core.symbols import normalize, split_exchange
from services.web import Content, Endpoint, Ttl, public
from services.web.quota_policies import UDF

MAX_BARS = 2000  # in one response; a chart requests older ones again
DEFAULT_RESULTS = 30
MAX_QUOTED_SYMBOLS = 50  # in one response
MAX_MARKS = 1000  # in one response: the newest
DECIMALS_SAMPLE_CANDLES = 100  # by which the number of decimals is known
DEFAULT_DECIMALS = 8
CACHE_CONTROL = public(1, stale=5)
POLL_SECONDS = 0.1  # while bars are being loaded
MAX_POLLS, MAX_POLLS_WITH_BARS = 80, 20  # before a response goes without them: when there are none, and some
MAX_WAITING_REQUESTS = 100  # at the same time
LOADING_TEXT = "history is being loaded, {1} of {0} candles are available: {2}"
COLORS = {"open": "red", "repaired": "green", "absent": "yellow"}
CACHE = Ttl(1_000, max_entries=128)


def error_content(error: KursError) -> Content | None:
    """Return the response to a request that cannot be understood, in the protocol's own form."""
    if not isinstance(error, BadRequest | UnknownName | BadRange):
        return None
    return _error(str(error))


CONFIG = Endpoint(path="/udf/config", limit=UDF, query=UdfQuery, cache=CACHE, on_error=error_content)
SYMBOLS = Endpoint(path="/udf/symbols", limit=UDF, query=SymbolQuery, cache=CACHE, on_error=error_content)
SEARCH = Endpoint(path="/udf/search", limit=UDF, query=SearchQuery, cache=CACHE, on_error=error_content)
HISTORY = Endpoint(path="/udf/history", limit=UDF, query=HistoryQuery, cache=CACHE, on_error=error_content)
QUOTES = Endpoint(path="/udf/quotes", limit=UDF, query=QuotesQuery, cache=CACHE, on_error=error_content, cost=5)
MARKS = Endpoint(path="/udf/marks", limit=UDF, query=RangeOfBars, cache=CACHE, on_error=error_content)
TIME = Endpoint(path="/udf/time", limit=UDF, query=UdfQuery, cache=CACHE, on_error=error_content)


class Udf:
    """The protocol's calls."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols, self._pages, self._backfill = parts.symbols, parts.pages, parts.backfill
        self._reader, deps = parts.candles, parts.deps
        self._store, self._clock, self._now = deps.store, deps.clock, deps.clock.now
        self._quotes = UdfQuotes(symbols=parts.symbols, reader=parts.candles, hub=deps.hub, clock=deps.clock)
        self._waiting_requests = 0  # for history

    @CONFIG.handler
    async def config(self, _query: UdfQuery) -> Content:
        """Return what this datafeed can do."""
        exchanges = dict.fromkeys(symbol.exchange for symbol in await self._symbols.symbols())
        named = [{"value": name, "name": name.capitalize(), "desc": name.capitalize()} for name in exchanges]
        return _json(
            {
                "supported_resolutions": list(RESOLUTIONS),
                "supports_search": True,
                "supports_group_request": False,
                "supports_marks": True,
                "supports_timescale_marks": False,
                "supports_time": True,
                "exchanges": [{"value": "", "name": "All exchanges", "desc": ""}, *named],
                "symbols_types": [{"name": "All types", "value": ""}, {"name": "Crypto", "value": "crypto"}],
            }
        )

    @TIME.handler
    def time(self, _query: UdfQuery) -> Content:
        """Return the server's time."""
        return Content(b"%d" % (self._now() // 1000), CACHE_CONTROL, media_type=b"text/plain")

    @SYMBOLS.handler
    async def symbols(self, query: SymbolQuery) -> Content:
        """Return one symbol."""
        symbol = await self._symbols.find(query.symbol)
        candles = await self._reader.latest(symbol.series(symbol.timeframes[0]), self._now(), DECIMALS_SAMPLE_CANDLES)
        own = [name for name, timeframe in RESOLUTIONS.items() if timeframe.name in symbol.timeframes]
        return _json(
            {
                **_symbol_info(symbol),
                "name": str(symbol.instrument),
                "listed_exchange": symbol.exchange.upper(),
                "session": "24x7",
                "timezone": "Etc/UTC",
                "format": "price",
                "minmov": 1,
                "pricescale": 10 ** price_decimals(candle.bar for candle in candles),
                "volume_precision": 8,
                "currency_code": symbol.instrument.quote,
                "has_intraday": any(name in INTRADAY for name in own),
                "has_daily": "1D" in own,
                "has_weekly_and_monthly": "1W" in own,
                "intraday_multipliers": [name for name in own if name in INTRADAY],
                "daily_multipliers": [name[:-1] for name in own if name.endswith("D")],
                "supported_resolutions": own,
                "data_status": "streaming",
            }
        )

    @SEARCH.handler
    async def search(self, query: SearchQuery) -> Content:
        """Return symbols whose name contains a text, at one exchange where its name stands before the text."""
        prefix, name = split_exchange(query.query)
        wanted, exchange = normalize(name), query.exchange.lower() or prefix
        symbols = [
            _symbol_info(symbol)
            for symbol in await self._symbols.symbols()
            if wanted in normalize(str(symbol.instrument))
            and exchange in ("", symbol.exchange)
            and query.type in ("", "crypto")
        ]
        return _json(symbols[: query.limit or DEFAULT_RESULTS])

    @HISTORY.handler
    async def history(self, query: HistoryQuery) -> Content:
        """Return bars in [from, to), or the `countback` last ones before `to`.

        The protocol has no bars that are still to come: they are waited for, and where that takes too long, an error
        says to request them again. `no_data` without `nextTime`: there is none before.
        """
        now, timeframe, since, count = self._now(), query.resolution, query.since, query.countback
        series = await self._symbols.series(query.symbol, "", timeframe.name)
        until = min((now + 1 if query.until is None else query.until) - 1, now)
        if count or timeframe.count_between(since, until) > MAX_CANDLES:
            period = CandleRange(None if count else since, until, min(count or MAX_BARS, MAX_BARS))
        else:
            period = CandleRange(since, until)
        candles, loading = await self._wait_for_candles(series, period)
        bars = [candle.bar for candle in candles if count or candle.bar.open_time >= since]
        if bars:
            return Content(_columns(bars), CACHE_CONTROL)
        if loading:
            return _error(LOADING_TEXT.format(*loading[:2], loading.reason or "try again"))
        older = [] if count else await self._reader.latest(series, min(since, until + 1) - 1, 1)
        return _json({"s": "no_data", **({"nextTime": older[0].bar.open_time // 1000} if older else {})})

    async def _wait_for_candles(self, series: Series, period: CandleRange) -> tuple[list[Candle], LoadingStatus | None]:
        """Return the candles of a range, after a wait while they load: a chart requests them only once."""
        read = None
        for polls in count():
            progress = self._backfill.progress(series)
            if read is None or progress != read[0]:
                read = progress, *await self._read(series, period)
            _, candles, loading = read
            enough = (
                polls >= (MAX_POLLS_WITH_BARS if candles else MAX_POLLS)
                or self._waiting_requests >= MAX_WAITING_REQUESTS
            )
            if loading is None or loading.reason or enough:
                break
            self._waiting_requests += 1
            try:
                await self._clock.sleep(POLL_SECONDS)
            finally:
                self._waiting_requests -= 1
        return candles, loading

    async def _read(self, series: Series, period: CandleRange) -> tuple[list[Candle], LoadingStatus | None]:
        if period.limit:
            candles = await self._reader.latest(series, period.until, period.limit)
        else:
            candles = await self._pages.candles(series, period.since or 0, period.until)
        forming = sum(not candle.closed for candle in candles)
        span = period.since, period.until, period.limit and period.limit - forming
        return candles, await self._backfill.check(
            series, span, lambda first: sum(candle.closed and candle.bar.open_time >= first for candle in candles)
        )

    @QUOTES.handler
    async def quotes(self, query: QuotesQuery) -> Content:
        """Return the current prices of symbols."""
        names = query.symbols
        if len(names) > MAX_QUOTED_SYMBOLS:
            raise BadRange(f"{len(names)} symbols are too many: at most {MAX_QUOTED_SYMBOLS}")
        return _json({"s": "ok", "d": [await self._quotes.quote(name) for name in names]})

    @MARKS.handler
    async def marks(self, query: RangeOfBars) -> Content:
        """Return the candle gaps in a range."""
        now, timeframe = self._now(), query.resolution
        series = await self._symbols.series(query.symbol, "", timeframe.name)
        closed = min(now if query.until is None else query.until, timeframe.open_time(now) - 1)
        gaps = await self._store.candle_gaps_within(series, query.since, closed)
        return _json([_mark(number, gap) for number, gap in enumerate(gaps[-MAX_MARKS:])])


def price_decimals(bars: Iterable[Bar]) -> int:
    """Return the number of decimals of the prices."""
    prices: Iterable[Decimal] = (price for bar in bars for price in (bar.open, bar.high, bar.low, bar.close))
    return max((len(format_decimal(price).partition(".")[2]) for price in prices), default=DEFAULT_DECIMALS)


def _error(reason: str) -> Content:
    return Content(msgspec.json.encode({"s": "error", "errmsg": reason}))


def _symbol_info(symbol: CatalogSymbol) -> dict[str, Any]:
    name, exchange = str(symbol.instrument), symbol.exchange.upper()
    return {
        "symbol": name,
        "full_name": f"{exchange}:{name}",
        "ticker": f"{exchange}:{name}",
        "description": f"{symbol.instrument.base} in {symbol.instrument.quote}",
        "exchange": exchange,
        "type": "crypto",
    }


def _columns(bars: Sequence[Bar]) -> bytes:
    """Return bars as columns, with every digit."""
    columns = {
        "t": (str(bar.open_time // 1000) for bar in bars),
        "o": (format_decimal(bar.open) for bar in bars),
        "h": (format_decimal(bar.high) for bar in bars),
        "l": (format_decimal(bar.low) for bar in bars),
        "c": (format_decimal(bar.close) for bar in bars),
        "v": (format_decimal(bar.volume) for bar in bars),
    }
    parts = ",".join(f'"{name}":[{",".join(values)}]' for name, values in columns.items())
    return f'{{"s":"ok",{parts}}}'.encode()


def _mark(number: int, gap: CandleGap) -> dict[str, Any]:
    source = f" from {gap.repaired_from}" if gap.repaired_from else ""
    return {
        "id": number,
        "time": gap.since // 1000,
        "color": COLORS[gap.state],
        "text": f"gap, {gap.state}{source}",
        "label": "!" if gap.state == "open" else "·",
        "labelFontColor": "white",
        "minSize": 14,
    }


def _json(content: object) -> Content:
    return Content(msgspec.json.encode(content), CACHE_CONTROL)
