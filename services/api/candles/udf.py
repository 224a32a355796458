"""TradingView's UDF protocol: its charts read Kurs unchanged. Times are seconds, errors `{"s": "error"}` with 200."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from services.api.backfill_status import BackfillStatus, LoadingStatus
from services.api.candles import candle_query
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.symbol_catalog import CatalogSymbol, SymbolCatalog
from services.api.candles.udf_quotes import UdfQuotes
from services.core.decimals import format_decimal
from services.core.errors import BadRange, BadRequest, UnknownName, unknown_name
from services.core.model import Bar, Candle, CandleGap, Series
from services.core.symbols import normalize, split_exchange
from services.core.timeframes import MINUTE_MS, TIMEFRAMES, Timeframe
from services.ports import Deps
from services.web import Brief, CachedResponse, FastHandler, Headers

MAX_BARS = 2000  # bars in one answer; who wants more asks again further back
DEFAULT_RESULTS = 30  # search results
MAX_QUOTED_SYMBOLS = 50  # symbols in one answer
MAX_MARKS = 1000  # in one answer: the newest
DECIMALS_SAMPLE_CANDLES = 100  # candles that tell how many digits a price has
DEFAULT_DECIMALS = 8
CACHE_MS, MAX_CACHED_RESPONSES = 1_000, 128
POLL_SECONDS = 0.1  # between two looks for bars that are being loaded
MAX_POLLS, MAX_POLLS_WITH_BARS = (
    80,
    20,
)  # looks before the answer is given without them: when there are none, when there are some
MAX_WAITING_REQUESTS = 100  # questions that wait at once
LOADING_TEXT = "history is being loaded, {1} of {0} candles are there: {2}"
COLORS = {"open": "red", "repaired": "green", "absent": "yellow"}
CALL_NAMES = ("config", "symbols", "search", "history", "quotes", "marks", "time")
INTRADAY = {str(t.length // MINUTE_MS): t for t in TIMEFRAMES.values() if t.name[-1] in "mh"}
RESOLUTIONS = INTRADAY | {t.name[:-1] + t.name[-1].upper(): t for t in TIMEFRAMES.values() if t.name[-1] in "dwM"}
# As users write them, too: 1m and 1h as everywhere else in Kurs, 1H, d, W. Only of m and M the case counts.
SPELLINGS = {name.upper(): t for name, t in TIMEFRAMES.items() if name[-1] in "hdw"} | RESOLUTIONS | TIMEFRAMES
SPELLINGS |= {name.removeprefix("1"): t for name, t in SPELLINGS.items() if name[0] == "1" and name[1:].isalpha()}
Make = Callable[[bytes], Coroutine[Any, Any, CachedResponse]]


class Udf:
    """The protocol's calls."""

    def __init__(self, deps: Deps, listing: SymbolCatalog, pages: CandlePageCache, backfill: BackfillStatus) -> None:
        self._listing, self._pages, self._backfill = listing, pages, backfill
        self._store, self._clock, self._quotes = deps.store, deps.clock, UdfQuotes(deps, listing)
        self._reader = pages.reader
        self._now, self._monotonic = deps.clock.now, deps.clock.monotonic
        self._waiting_requests = 0  # questions that wait for history

    def fronts(self) -> Mapping[str, FastHandler]:
        """The protocol's addresses."""
        return {
            f"/udf/{name}": Brief(
                _with_udf_errors(getattr(self, name)), self._monotonic, CACHE_MS, MAX_CACHED_RESPONSES
            )
            for name in CALL_NAMES
        }

    async def config(self, _query: bytes) -> CachedResponse:
        """What this datafeed can do."""
        exchanges = dict.fromkeys(symbol.exchange for symbol in await self._listing.symbols())
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

    async def time(self, _query: bytes) -> CachedResponse:
        """The server's time."""
        return CachedResponse(b"%d" % (self._now() // 1000), _headers(b"text/plain"))

    async def symbols(self, query: bytes) -> CachedResponse:
        """One symbol."""
        symbol = await self._listing.find(candle_query.single(candle_query.params(query), "symbol", "BTCUSDT"))
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

    async def search(self, query: bytes) -> CachedResponse:
        """Symbols whose name holds the words, at one exchange where its name stands before them."""
        words = candle_query.params(query)
        prefix, name = split_exchange(candle_query.single(words, "query"))
        part, kind = normalize(name), candle_query.single(words, "type")
        exchange = candle_query.single(words, "exchange").lower() or prefix
        found = [
            _symbol_info(symbol)
            for symbol in await self._listing.symbols()
            if part in normalize(str(symbol.instrument))
            and exchange in ("", symbol.exchange)
            and kind in ("", "crypto")
        ]
        return _json(found[: count_param(words, "limit", 1000) or DEFAULT_RESULTS])

    async def history(self, query: bytes) -> CachedResponse:
        """Bars in [from, to), or the `countback` last ones before `to`. `no_data` without `nextTime`: none is older.

        The protocol knows no bars that are not there yet: they are waited for, and then it is an error to ask again.
        """
        words, now = candle_query.params(query), self._now()
        name, timeframe = candle_query.single(words, "symbol", "BTCUSDT"), resolution(words)
        series, most = await self._listing.series(name, "", timeframe.name), count_param(words, "countback", 10**6)
        since, end = time_param(words, "from", 0), time_param(words, "to", now + 1)
        until = min(end - 1, now)
        if most or timeframe.count_between(since, until) > candle_query.MAX_CANDLES:
            period = candle_query.CandleRange(None if most else since, until, min(most or MAX_BARS, MAX_BARS))
        else:
            period = candle_query.CandleRange(since, until)
        candles, loading = await self._wait_for_candles(series, period)
        bars = [candle.bar for candle in candles if most or candle.bar.open_time >= since]
        if bars:
            return CachedResponse(_columns(bars), _headers(b"application/json"), compress=True)
        if loading:
            return _error(LOADING_TEXT.format(*loading[:2], loading.reason or "ask again"))
        older = [] if most else await self._reader.latest(series, min(since, until + 1) - 1, 1)
        return _json({"s": "no_data", **({"nextTime": older[0].bar.open_time // 1000} if older else {})})

    async def _wait_for_candles(
        self, series: Series, period: candle_query.CandleRange
    ) -> tuple[list[Candle], LoadingStatus | None]:
        """The candles of a period, waited for while they are loaded: a chart takes what is missing for never there."""
        known = None
        for polls in count():
            progress = self._backfill.progress(series)
            if known is None or progress != known[0]:
                known = progress, *await self._read(series, period)
            _, candles, loading = known
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

    async def _read(
        self, series: Series, period: candle_query.CandleRange
    ) -> tuple[list[Candle], LoadingStatus | None]:
        if period.limit:
            candles = await self._reader.latest(series, period.until, period.limit)
        else:
            candles = await self._pages.candles(series, period.since or 0, period.until)
        forming = sum(not candle.closed for candle in candles)
        span = period.since, period.until, period.limit and period.limit - forming
        return candles, await self._backfill.check(
            series, span, lambda first: sum(candle.closed and candle.bar.open_time >= first for candle in candles)
        )

    async def quotes(self, query: bytes) -> CachedResponse:
        """What symbols cost now, each as far as it is known."""
        names = candle_query.params(query).get("symbols", ())
        if not names:
            raise BadRequest("symbols is missing: write symbols=BINANCE:BTCUSDT,BINANCE:ETHUSDT")
        if len(names) > MAX_QUOTED_SYMBOLS:
            raise BadRange(f"{len(names)} symbols are too many: at most {MAX_QUOTED_SYMBOLS}")
        return _json({"s": "ok", "d": [await self._quotes.quote(name) for name in names]})

    async def marks(self, query: bytes) -> CachedResponse:
        """The holes in a range."""
        words, now = candle_query.params(query), self._now()
        name, timeframe = candle_query.single(words, "symbol", "BTCUSDT"), resolution(words)
        series = await self._listing.series(name, "", timeframe.name)
        since, until = time_param(words, "from", 0), time_param(words, "to", now)
        closed = min(until, timeframe.open_time(now) - 1)
        holes = await self._store.candle_gaps_within(series, since, closed)
        return _json([_mark(number, hole) for number, hole in enumerate(holes[-MAX_MARKS:])])


def resolution(words: candle_query.Params) -> Timeframe:
    """The timeframe of `resolution`: minutes, or days, weeks, months as `1D` or `D`. Raises BadRequest, UnknownName.

    `1m` is a minute, `1M` a month.
    """
    name = candle_query.single(words, "resolution", "60")
    found = SPELLINGS.get(name)
    if found is None:
        raise unknown_name("resolution", name, list(RESOLUTIONS))
    return found


def count_param(words: candle_query.Params, name: str, most: int) -> int | None:
    """A whole number up to `most`; 0 is as good as none. Raises BadRequest, BadRange."""
    return None if candle_query.single(words, name) == "0" else candle_query.integer(words, name, most)


def time_param(words: candle_query.Params, name: str, otherwise: int) -> int:
    """A time in ms; charts that are scrolled far back ask for years before 1970 too. Raises BadRequest."""
    if (text := candle_query.single(words, name)).startswith("-") and text[1:].isdigit():
        return 0
    found = candle_query.time(words, name)
    return otherwise if found is None else found


def price_decimals(bars: Iterable[Bar]) -> int:
    """How many digits after the point the prices have."""
    prices: Iterable[Decimal] = (price for bar in bars for price in (bar.open, bar.high, bar.low, bar.close))
    return max((len(format_decimal(price).partition(".")[2]) for price in prices), default=DEFAULT_DECIMALS)


def _with_udf_errors(make: Make) -> Make:
    """What was asked wrongly is told in the protocol's own way."""

    async def answer(query: bytes) -> CachedResponse:
        try:
            return await make(query)
        except (BadRequest, UnknownName, BadRange) as error:
            return _error(str(error))

    return answer


def _error(reason: str) -> CachedResponse:
    body = msgspec.json.encode({"s": "error", "errmsg": reason})
    return CachedResponse(body, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")])


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
    """Bars as columns, with every digit."""
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


def _mark(place: int, hole: CandleGap) -> dict[str, Any]:
    origin = f" from {hole.repaired_from}" if hole.repaired_from else ""
    return {
        "id": place,
        "time": hole.since // 1000,
        "color": COLORS[hole.state],
        "text": f"hole, {hole.state}{origin}",
        "label": "!" if hole.state == "open" else "·",
        "labelFontColor": "white",
        "minSize": 14,
    }


def _json(content: object) -> CachedResponse:
    return CachedResponse(msgspec.json.encode(content), _headers(b"application/json"), compress=True)


def _headers(kind: bytes) -> Headers:
    return [
        (b"content-type", kind),
        (b"cache-control", b"public, max-age=1, stale-while-revalidate=5"),
        (b"vary", b"Origin, Accept-Encoding"),
    ]
