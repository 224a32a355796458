"""Binance spot: best prices, aggregate trades and closed minutes by one combined stream, by REST while none is open.

https://github.com/binance/binance-spot-api-docs: web-socket-streams.md and rest-api.md.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.bounds import clean_text
from services.core.conversion import FIAT
from services.core.exchange import (
    Event,
    Exchange,
    ExchangeRefusal,
    Instruments,
    InstrumentStatus,
    InvalidValue,
    OwnLeg,
    OwnRoute,
    Reconnect,
    RestCall,
    RestResponse,
    SequencedQuote,
    StreamSpec,
    decode_rows,
    nonzero,
    retry_after_seconds,
)
from services.core.model import Bar, Instrument, Kline, Quote, Series, Trade
from services.core.timeframes import TIMEFRAMES
from services.core.trading_rules import TradingRules

NAME = "binance"
WEIGHT_PER_MINUTE = 6000  # of an address, for all that share it
USED_WEIGHT_HEADER = "x-mbx-used-weight-1m"
EXCHANGE_INFO_WEIGHT, KLINES_WEIGHT = 20, 2
MAX_ROWS = 1000  # trades or candles in one response
MAX_CLOCK_SKEW_MS = 1_000  # by which what is known of its clock may be ahead of it


class _CombinedFrame(Struct):
    stream: str = ""
    data: Raw = Raw(b"null")
    error: dict[str, object] | None = None


class _BookTicker(Struct):
    u: int
    s: str
    b: Decimal
    a: Decimal


class _AggTrade(Struct):
    """The parts of a trade that stream and REST share; only the stream has `s`."""

    a: int
    p: Decimal
    q: Decimal
    T: int
    m: bool
    f: int
    l: int  # noqa: E741  its name on the wire
    s: str = ""


class _StreamKline(Struct):
    s: str
    t: int
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741
    c: Decimal
    v: Decimal
    q: Decimal
    n: int
    x: bool  # closed


class _KlineEvent(Struct):
    k: _StreamKline


class _KlineRow(Struct, array_like=True):
    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    close_time: int  # its last ms
    quote_volume: Decimal
    trades: int


class _PolledBookTicker(Struct, rename={"s": "symbol", "b": "bidPrice", "a": "askPrice"}):
    s: str
    b: Decimal
    a: Decimal
    u: int | None = None  # only the stream numbers them


class _SymbolInfo(Struct):
    symbol: str
    status: str
    baseAsset: str = ""  # noqa: N815  as on the wire
    quoteAsset: str = ""  # noqa: N815


class _ExchangeInfo(Struct):
    symbols: list[_SymbolInfo]


class _Filter(Struct, rename="camel"):
    filter_type: str
    tick_size: Decimal | None = None
    step_size: Decimal | None = None
    min_qty: Decimal | None = None
    min_notional: Decimal | None = None


class _FilteredSymbol(Struct, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]


class _FilteredInfo(Struct):
    symbols: Raw


class _ErrorBody(Struct):
    msg: str = ""


_frame_decoder = msgspec.json.Decoder(_CombinedFrame)
_book_ticker_decoder = msgspec.json.Decoder(_BookTicker)
_agg_trade_decoder = msgspec.json.Decoder(_AggTrade)
_kline_decoder = msgspec.json.Decoder(_KlineEvent)
_exchange_info_decoder = msgspec.json.Decoder(_ExchangeInfo)
_filtered_info_decoder = msgspec.json.Decoder(_FilteredInfo)
_error_decoder = msgspec.json.Decoder(_ErrorBody)


def symbol(instrument: Instrument) -> str:
    """BTCUSDT."""
    return f"{instrument.base}{instrument.quote}"


def route(base: str, quote: str) -> OwnRoute | None:
    """Everything trades against USDT, and USDT itself against USDC.

    No route ends in RUB: its pairs were closed in January 2024, and the price endpoint still serves their last prices.
    """
    if quote not in FIAT:
        return OwnRoute((OwnLeg(Instrument(base, quote)),), quote)
    if base in FIAT:
        return None
    if base == "USDT":
        return OwnRoute((OwnLeg(Instrument("USDC", "USDT"), inverted=True),), "USDC")
    return OwnRoute((OwnLeg(Instrument(base, "USDT")),), "USDT")


def spot_instruments(symbols: Instruments) -> list[Instrument]:
    """Return the symbols that are no contracts."""
    return [instrument for instrument in symbols if not instrument.contract]


def stream(instruments: Instruments) -> StreamSpec:
    """All streams are in the URL: no message is sent, so the limit on messages cannot be reached."""
    names = (f"{symbol(i).lower()}@{kind}" for i in instruments for kind in ("bookTicker", "aggTrade", "kline_1m"))
    return StreamSpec(f"/stream?streams={'/'.join(names)}", partial(parse_frame, {symbol(i): i for i in instruments}))


# web-socket-streams.md: Individual Symbol Book Ticker Streams, Aggregate Trade Streams, Kline/Candlestick Streams.
# {"stream":"btcusdt@bookTicker","data":{"u":76861015827,"s":"BTCUSDT","b":"109257.64000000","B":"0.77163000",
#  "a":"109257.65000000","A":"6.27706000"}}
# {"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1733464456075,"s":"BTCUSDT","a":3305280883,
#  "p":"97900.88000000","q":"0.00208000","f":4216590360,"l":4216590360,"T":1733464456074,"m":true,"M":true}}
# {"stream":"nknusdt@kline_1m","data":{"e":"kline","E":1633998523963,"s":"NKNUSDT","k":{"t":1633998480000,
#  "T":1633998539999,"s":"NKNUSDT","i":"1m","f":19862761,"L":19862790,"o":"0.35270000","c":"0.35280000",
#  "h":"0.35280000","l":"0.35220000","v":"25877.00000000","n":30,"x":true,"q":"9116.04600000",…}}}
def parse_frame(symbols: Mapping[str, Instrument], frame: str | bytes, now: int) -> Sequence[Event]:
    """Parse a frame of the combined stream. A best price has no time of its own, only a number that grows."""
    message = _frame_decoder.decode(frame)
    if message.error is not None:
        return [ExchangeRefusal(f"Binance: {message.error.get('msg', '')}", 10)]
    if message.stream == "!serverShutdown":
        return [Reconnect("the server shuts down")]
    if message.stream.endswith("@bookTicker"):
        ticker = _book_ticker_decoder.decode(message.data)
        return _to_quote(symbols.get(ticker.s), ticker, now)
    if message.stream.endswith("@aggTrade"):
        trade = _agg_trade_decoder.decode(message.data)
        return _to_trade(symbols.get(trade.s), trade, now)
    if message.stream.endswith("@kline_1m"):
        minute = _kline_decoder.decode(message.data).k
        return _to_kline(symbols.get(minute.s), minute)
    return []


def _to_quote(instrument: Instrument | None, ticker: _BookTicker | _PolledBookTicker, now: int) -> Sequence[Event]:
    bid, ask = nonzero(ticker.b), nonzero(ticker.a)
    if instrument is None or not (bid or ask):
        return []
    return [SequencedQuote(Quote(NAME, instrument, now, bid=bid, ask=ask), ticker.u)]


def _to_trade(instrument: Instrument | None, trade: _AggTrade, now: int) -> Sequence[Event]:
    if instrument is None:
        return []
    fills = trade.l - trade.f + 1  # which is what candles count
    return [Trade(NAME, instrument, now, trade.T, trade.p, trade.q, trade.a, fills, trade.m)]


def _to_kline(instrument: Instrument | None, minute: _StreamKline) -> Sequence[Event]:
    if instrument is None or not minute.x:
        return []
    m, series = minute, Series(NAME, instrument, "1m")
    return [Kline(series, Bar(m.t, m.o, m.h, m.l, m.c, m.v, m.q, m.n))]


def instrument_status(instrument: Instrument) -> RestCall:
    """Whether it trades: dead symbols stay listed, and some of their prices are still served."""
    return RestCall(f"/api/v3/exchangeInfo?symbol={symbol(instrument)}", partial(_parse_instrument_status, instrument))


# rest-api.md: Exchange information.
# {"timezone":"UTC","serverTime":1754603741167,"rateLimits":[…],"exchangeFilters":[],"symbols":[{"symbol":"BCCBTC",
#  "status":"BREAK","baseAsset":"BCC","quoteAsset":"BTC",…},{"symbol":"BTCUSDT","status":"TRADING",…}]}
def _parse_instrument_status(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    statuses = {listing.symbol: listing.status for listing in _exchange_info_decoder.decode(body).symbols}
    status = statuses.get(symbol(instrument), "not listed")
    return [InstrumentStatus(instrument, status == "TRADING", status)]


def find_instrument(symbol: str) -> RestCall:
    """Which pair a symbol is: BTCUSDT does not say where its base ends."""
    return RestCall(f"/api/v3/exchangeInfo?symbol={quote(symbol)}", partial(_parse_found_instrument, symbol))


def _parse_found_instrument(symbol: str, body: bytes, now: int) -> Sequence[Event]:
    return [
        InstrumentStatus(Instrument(listing.baseAsset, listing.quoteAsset), listing.status == "TRADING", listing.status)
        for listing in _exchange_info_decoder.decode(body).symbols
        if listing.symbol == symbol and listing.baseAsset
    ]


# rest-api.md and filters.md.
# {"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT",
#  "filters":[{"filterType":"PRICE_FILTER","minPrice":"0.01000000","maxPrice":"…","tickSize":"0.01000000"},
#  {"filterType":"LOT_SIZE","minQty":"0.00001000","maxQty":"9000.00000000","stepSize":"0.00001000"},
#  {"filterType":"NOTIONAL","minNotional":"5.00000000",…},…],…},…]}
def _parse_trading_rules(body: bytes, now: int) -> Sequence[Event]:
    """Parse the filters of all symbols. Fees depend on the account, and are in no public response."""
    rows = decode_rows(_FilteredSymbol, bytes(_filtered_info_decoder.decode(body).symbols), "filters")
    return [row if isinstance(row, InvalidValue) else _to_trading_rules(row, now) for row in rows]


def _to_trading_rules(row: _FilteredSymbol, now: int) -> TradingRules | InvalidValue:
    filters = {each.filter_type: each for each in row.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    if price is None or lot is None or price.tick_size is None or lot.step_size is None or lot.min_qty is None:
        return InvalidValue(clean_text(row.symbol), "filters", "a filter is missing")
    return TradingRules(
        exchange=NAME,
        instrument=Instrument(row.base_asset, row.quote_asset),
        symbol=row.symbol,
        trading=row.status == "TRADING",
        tick_size=price.tick_size,
        step_size=lot.step_size,
        min_size=lot.min_qty,
        min_notional=notional.min_notional if notional else None,
        time=now,
    )


def poll(instruments: Instruments, expected_ids: Mapping[Instrument, int]) -> tuple[RestCall, ...]:
    """Request the best prices of all, and the trades of each from the expected id on."""
    if not instruments:
        return ()
    symbols = {symbol(i): i for i in instruments}
    names = quote(msgspec.json.encode(list(symbols)).decode())
    tickers = RestCall(f"/api/v3/ticker/bookTicker?symbols={names}", partial(_parse_book_tickers, symbols))
    return tickers, *(_agg_trades_call(i, expected_ids.get(i), MAX_ROWS) for i in instruments)


# rest-api.md: Symbol order book ticker.
# [{"symbol":"BTCUSDT","bidPrice":"60741.67000000","bidQty":"0.36580000","askPrice":"60741.68000000","askQty":"0.4…"}]
def _parse_book_tickers(symbols: Mapping[str, Instrument], body: bytes, now: int) -> Sequence[Event]:
    return [
        event
        for ticker in decode_rows(_PolledBookTicker, body, "best prices")
        for event in ([ticker] if isinstance(ticker, InvalidValue) else _to_quote(symbols.get(ticker.s), ticker, now))
    ]


def refetch_trades(instrument: Instrument, trade_ids: range) -> RestCall:
    """Request trades from the first of `trade_ids` on, at most MAX_ROWS."""
    return _agg_trades_call(instrument, trade_ids.start, min(len(trade_ids), MAX_ROWS))


def _agg_trades_call(instrument: Instrument, first: int | None, count: int) -> RestCall:
    query = {"symbol": symbol(instrument), **({"limit": 1} if first is None else {"fromId": first, "limit": count})}
    return RestCall(f"/api/v3/aggTrades?{urlencode(query)}", partial(_parse_agg_trades, instrument))


# rest-api.md: Compressed/Aggregate trades list.
# [{"a":966492862,"p":"60759.60000000","q":"0.00841000","f":1111480471,"l":1111480471,"T":1634944096633,"m":false,
#  "M":true},…]
def _parse_agg_trades(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    return [
        event
        for trade in decode_rows(_AggTrade, body, str(instrument))
        for event in ([trade] if isinstance(trade, InvalidValue) else _to_trade(instrument, trade, now))
    ]


def klines(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall:
    """Its intervals are named as our timeframes are. One candle more is requested: where it exists, the others are
    closed.
    """
    end = TIMEFRAMES[timeframe].close_time(until)
    query = {"symbol": symbol(instrument), "interval": timeframe, "startTime": since, "endTime": end}
    series = Series(NAME, instrument, timeframe)
    return RestCall(f"/api/v3/klines?{urlencode(query | {'limit': MAX_ROWS})}", partial(_parse_klines, series), True)


# rest-api.md: Kline/Candlestick data.
# [[1634943780000,"60685.22000000","60729.84000000","60670.90000000","60719.27000000","21.63272000",1634943839999,
#  "1313200.01340410",617,"12.28492000","745719.41022840","0"],…]
def _parse_klines(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """Parse candles; the last row may be the forming one. `now` is by its clock."""
    rows = decode_rows(_KlineRow, body, f"{series.instrument} {series.timeframe}")
    last = rows[-1] if rows else None
    closed = rows[:-1] if isinstance(last, _KlineRow) and last.close_time >= now - MAX_CLOCK_SKEW_MS else rows
    return [row if isinstance(row, InvalidValue) else Kline(series, _to_bar(row)) for row in closed]


def _to_bar(row: _KlineRow) -> Bar:
    r = row
    return Bar(r.open_time, r.open, r.high, r.low, r.close, r.volume, r.quote_volume, r.trades)


def retry_delay(response: RestResponse, now: int) -> float:
    """By `Retry-After` or a ban; the rest of the minute when two thirds of the address's weight are used."""
    used = response.headers.get(USED_WEIGHT_HEADER, "0")
    if used.isascii() and used.isdigit() and int(used[:9]) > WEIGHT_PER_MINUTE * 2 // 3:
        return max(retry_after_seconds(response, now), 60 - now / 1000 % 60)
    return retry_after_seconds(response, now)


def error_text(body: bytes) -> str:
    """`{"code": -1121, "msg": "Invalid symbol."}`; a firewall sends HTML or nothing."""
    try:
        return _error_decoder.decode(body).msg
    except ValueError:
        return ""


EXCHANGE = Exchange(
    name=NAME,
    rest_urls=(
        "https://api.binance.com",
        "https://data-api.binance.vision",
        "https://api-gcp.binance.com",
        *(f"https://api{number}.binance.com" for number in (1, 2, 3, 4)),
    ),
    ping_path="/api/v3/ping",
    error_text=error_text,
    retry_delay=retry_delay,
    route=route,
    instruments=spot_instruments,
    ws_urls=(
        "wss://stream.binance.com:9443",
        "wss://data-stream.binance.vision",
        "wss://stream.binance.com:443",
    ),
    stream=stream,
    poll=poll,
    instrument_status=instrument_status,
    instrument_status_weight=EXCHANGE_INFO_WEIGHT,
    find_instrument=find_instrument,
    refetch_trades=refetch_trades,
    klines=klines,
    klines_per_call=MAX_ROWS - 1,
    kline_weight=KLINES_WEIGHT,
    kline_budget=WEIGHT_PER_MINUTE // 5,
    trading_rules=(RestCall("/api/v3/exchangeInfo?permissions=SPOT&showPermissionSets=false", _parse_trading_rules),),
    has_simulator=True,
)
