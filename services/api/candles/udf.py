"""TradingView's UDF protocol: its charts read Kurs unchanged. Times are seconds, errors `{"s": "error"}` with 200."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from services.api.backfill_status import Backfill, Loading
from services.api.candles import candle_query
from services.api.candles.candle_page_cache import Pages
from services.api.candles.symbol_catalog import Listing, Symbol
from services.api.candles.udf_quotes import Quotes
from services.core.decimals import number
from services.core.errors import BadRange, BadRequest, UnknownName, unknown_name
from services.core.model import Bar, Candle, Hole, Series
from services.core.symbols import bare, split
from services.core.timeframes import MINUTE, TIMEFRAMES, Timeframe
from services.ports import Deps
from services.web import Brief, Front, Headers, Kept

MOST = 2000  # bars in one answer; who wants more asks again further back
FOUND = 30  # search results
QUOTED = 50  # symbols in one answer
MARKS = 1000  # in one answer: the newest
RECENT = 100  # candles that tell how many digits a price has
UNKNOWN_DIGITS = 8
KEPT_MS, CACHED = 1_000, 128
POLL_SECONDS = 0.1  # between two looks for bars that are being loaded
POLLS, SOME_POLLS = 80, 20  # looks before the answer is given without them: when there are none, when there are some
MAX_WAITING = 100  # questions that wait at once
LOADING = "history is being loaded, {1} of {0} candles are there: {2}"
COLORS = {"open": "red", "repaired": "green", "absent": "yellow"}
CALLS = ("config", "symbols", "search", "history", "quotes", "marks", "time")
INTRADAY = {str(t.length // MINUTE): t for t in TIMEFRAMES.values() if t.name[-1] in "mh"}
RESOLUTIONS = INTRADAY | {t.name[:-1] + t.name[-1].upper(): t for t in TIMEFRAMES.values() if t.name[-1] in "dwM"}
# As users write them, too: 1m and 1h as everywhere else in Kurs, 1H, d, W. Only of m and M the case counts.
SPELLINGS = {name.upper(): t for name, t in TIMEFRAMES.items() if name[-1] in "hdw"} | RESOLUTIONS | TIMEFRAMES
SPELLINGS |= {name.removeprefix("1"): t for name, t in SPELLINGS.items() if name[0] == "1" and name[1:].isalpha()}
Make = Callable[[bytes], Coroutine[Any, Any, Kept]]


class Udf:
    """The protocol's calls."""

    def __init__(self, deps: Deps, listing: Listing, pages: Pages, backfill: Backfill) -> None:
        self._listing, self._pages, self._backfill = listing, pages, backfill
        self._store, self._clock, self._quotes = deps.store, deps.clock, Quotes(deps, listing)
        self._reader = pages.reader
        self._now, self._monotonic = deps.clock.now, deps.clock.monotonic
        self._waiting = 0  # questions that wait for history

    def fronts(self) -> Mapping[str, Front]:
        """The protocol's addresses."""
        return {f"/udf/{name}": Brief(_told(getattr(self, name)), self._monotonic, KEPT_MS, CACHED) for name in CALLS}

    async def config(self, _query: bytes) -> Kept:
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

    async def time(self, _query: bytes) -> Kept:
        """The server's time."""
        return Kept(b"%d" % (self._now() // 1000), _headers(b"text/plain"))

    async def symbols(self, query: bytes) -> Kept:
        """One symbol."""
        symbol = await self._listing.find(candle_query.one(candle_query.words(query), "symbol", "BTCUSDT"))
        candles = await self._reader.last(symbol.series(symbol.timeframes[0]), self._now(), RECENT)
        own = [name for name, timeframe in RESOLUTIONS.items() if timeframe.name in symbol.timeframes]
        return _json(
            {
                **_found(symbol),
                "name": str(symbol.instrument),
                "listed_exchange": symbol.exchange.upper(),
                "session": "24x7",
                "timezone": "Etc/UTC",
                "format": "price",
                "minmov": 1,
                "pricescale": 10 ** digits(candle.bar for candle in candles),
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

    async def search(self, query: bytes) -> Kept:
        """Symbols whose name holds the words, at one exchange where its name stands before them."""
        words = candle_query.words(query)
        prefix, name = split(candle_query.one(words, "query"))
        part, kind = bare(name), candle_query.one(words, "type")
        exchange = candle_query.one(words, "exchange").lower() or prefix
        found = [
            _found(symbol)
            for symbol in await self._listing.symbols()
            if part in bare(str(symbol.instrument)) and exchange in ("", symbol.exchange) and kind in ("", "crypto")
        ]
        return _json(found[: count_of(words, "limit", 1000) or FOUND])

    async def history(self, query: bytes) -> Kept:
        """Bars in [from, to), or the `countback` last ones before `to`. `no_data` without `nextTime`: none is older.

        The protocol knows no bars that are not there yet: they are waited for, and then it is an error to ask again.
        """
        words, now = candle_query.words(query), self._now()
        name, timeframe = candle_query.one(words, "symbol", "BTCUSDT"), resolution(words)
        series, most = await self._listing.series(name, "", timeframe.name), count_of(words, "countback", 10**6)
        since, end = time(words, "from", 0), time(words, "to", now + 1)
        until = min(end - 1, now)
        if most or timeframe.expected(since, until) > candle_query.MOST:
            period = candle_query.Period(None if most else since, until, min(most or MOST, MOST))
        else:
            period = candle_query.Period(since, until)
        candles, loading = await self._whole(series, period)
        bars = [candle.bar for candle in candles if most or candle.bar.timestamp >= since]
        if bars:
            return Kept(_columns(bars), _headers(b"application/json"), packs=True)
        if loading:
            return _error(LOADING.format(*loading[:2], loading.reason or "ask again"))
        older = [] if most else await self._reader.last(series, min(since, until + 1) - 1, 1)
        return _json({"s": "no_data", **({"nextTime": older[0].bar.timestamp // 1000} if older else {})})

    async def _whole(self, series: Series, period: candle_query.Period) -> tuple[list[Candle], Loading | None]:
        """The candles of a period, waited for while they are loaded: a chart takes what is missing for never there."""
        known = None
        for polls in count():
            progress = self._backfill.progress(series)
            if known is None or progress != known[0]:
                known = progress, *await self._read(series, period)
            _, candles, loading = known
            enough = polls >= (SOME_POLLS if candles else POLLS) or self._waiting >= MAX_WAITING
            if loading is None or loading.reason or enough:
                break
            self._waiting += 1
            try:
                await self._clock.sleep(POLL_SECONDS)
            finally:
                self._waiting -= 1
        return candles, loading

    async def _read(self, series: Series, period: candle_query.Period) -> tuple[list[Candle], Loading | None]:
        if period.limit:
            candles = await self._reader.last(series, period.until, period.limit)
        else:
            candles = await self._pages.candles(series, period.since or 0, period.until)
        forming = sum(not candle.closed for candle in candles)
        span = period.since, period.until, period.limit and period.limit - forming
        return candles, await self._backfill.check(
            series, span, lambda first: sum(candle.closed and candle.bar.timestamp >= first for candle in candles)
        )

    async def quotes(self, query: bytes) -> Kept:
        """What symbols cost now, each as far as it is known."""
        names = candle_query.words(query).get("symbols", ())
        if not names:
            raise BadRequest("symbols is missing: write symbols=BINANCE:BTCUSDT,BINANCE:ETHUSDT")
        if len(names) > QUOTED:
            raise BadRange(f"{len(names)} symbols are too many: at most {QUOTED}")
        return _json({"s": "ok", "d": [await self._quotes.quote(name) for name in names]})

    async def marks(self, query: bytes) -> Kept:
        """The holes in a range."""
        words, now = candle_query.words(query), self._now()
        name, timeframe = candle_query.one(words, "symbol", "BTCUSDT"), resolution(words)
        series = await self._listing.series(name, "", timeframe.name)
        since, until = time(words, "from", 0), time(words, "to", now)
        closed = min(until, timeframe.opening(now) - 1)
        holes = await self._store.holes_within(series, since, closed)
        return _json([_mark(number, hole) for number, hole in enumerate(holes[-MARKS:])])


def resolution(words: candle_query.Words) -> Timeframe:
    """The timeframe of `resolution`: minutes, or days, weeks, months as `1D` or `D`. Raises BadRequest, UnknownName.

    `1m` is a minute, `1M` a month.
    """
    name = candle_query.one(words, "resolution", "60")
    found = SPELLINGS.get(name)
    if found is None:
        raise unknown_name("resolution", name, list(RESOLUTIONS))
    return found


def count_of(words: candle_query.Words, name: str, most: int) -> int | None:
    """A whole number up to `most`; 0 is as good as none. Raises BadRequest, BadRange."""
    return None if candle_query.one(words, name) == "0" else candle_query.whole(words, name, most)


def time(words: candle_query.Words, name: str, otherwise: int) -> int:
    """A time in ms; charts that are scrolled far back ask for years before 1970 too. Raises BadRequest."""
    if (text := candle_query.one(words, name)).startswith("-") and text[1:].isdigit():
        return 0
    found = candle_query.time(words, name)
    return otherwise if found is None else found


def digits(bars: Iterable[Bar]) -> int:
    """How many digits after the point the prices have."""
    prices: Iterable[Decimal] = (price for bar in bars for price in (bar.open, bar.high, bar.low, bar.close))
    return max((len(number(price).partition(".")[2]) for price in prices), default=UNKNOWN_DIGITS)


def _told(make: Make) -> Make:
    """What was asked wrongly is told in the protocol's own way."""

    async def answer(query: bytes) -> Kept:
        try:
            return await make(query)
        except (BadRequest, UnknownName, BadRange) as error:
            return _error(str(error))

    return answer


def _error(reason: str) -> Kept:
    body = msgspec.json.encode({"s": "error", "errmsg": reason})
    return Kept(body, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")])


def _found(symbol: Symbol) -> dict[str, Any]:
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
        "t": (str(bar.timestamp // 1000) for bar in bars),
        "o": (number(bar.open) for bar in bars),
        "h": (number(bar.high) for bar in bars),
        "l": (number(bar.low) for bar in bars),
        "c": (number(bar.close) for bar in bars),
        "v": (number(bar.volume) for bar in bars),
    }
    parts = ",".join(f'"{name}":[{",".join(values)}]' for name, values in columns.items())
    return f'{{"s":"ok",{parts}}}'.encode()


def _mark(place: int, hole: Hole) -> dict[str, Any]:
    origin = f" from {hole.origin}" if hole.origin else ""
    return {
        "id": place,
        "time": hole.since // 1000,
        "color": COLORS[hole.state],
        "text": f"hole, {hole.state}{origin}",
        "label": "!" if hole.state == "open" else "·",
        "labelFontColor": "white",
        "minSize": 14,
    }


def _json(content: object) -> Kept:
    return Kept(msgspec.json.encode(content), _headers(b"application/json"), packs=True)


def _headers(kind: bytes) -> Headers:
    return [
        (b"content-type", kind),
        (b"cache-control", b"public, max-age=1, stale-while-revalidate=5"),
        (b"vary", b"Origin, Accept-Encoding"),
    ]
