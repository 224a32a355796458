"""Binance spot: best prices, trades and closed minutes by one combined stream, by REST while no stream can be had."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.exchange import (
    Event,
    Exchange,
    ExchangeRefusal,
    Instruments,
    InstrumentStatus,
    InvalidValue,
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

NAME = "binance"
WEIGHT_PER_MINUTE = 6000  # a minute and address; all that share the address share it
USED_WEIGHT_HEADER = "x-mbx-used-weight-1m"
EXCHANGE_INFO_WEIGHT, KLINES_WEIGHT = 20, 2
MAX_ROWS = 1000  # trades or bars in one answer
MAX_CLOCK_SKEW_MS = 1_000  # ms that what is known of its clock may be ahead of it


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
    """The parts of a trade that stream and REST share; `s` only the stream has."""

    a: int
    p: Decimal
    q: Decimal
    T: int
    m: bool
    f: int
    l: int  # noqa: E741  its name on the wire
    s: str = ""


class _StreamKline(Struct):
    """A bar as the stream gives it."""

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
    """A bar as REST gives it."""

    opened: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    ends: int  # its last ms
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


class _ErrorBody(Struct):
    msg: str = ""


_frame_decoder = msgspec.json.Decoder(_CombinedFrame)
_book_ticker_decoder = msgspec.json.Decoder(_BookTicker)
_agg_trade_decoder = msgspec.json.Decoder(_AggTrade)
_kline_decoder = msgspec.json.Decoder(_KlineEvent)
_exchange_info_decoder = msgspec.json.Decoder(_ExchangeInfo)
_error_decoder = msgspec.json.Decoder(_ErrorBody)


def symbol(instrument: Instrument) -> str:
    """BTCUSDT."""
    return f"{instrument.base}{instrument.quote}"


def stream(instruments: Instruments) -> StreamSpec:
    """All in the URL: nothing needs to be sent, so the limit on messages cannot be met."""
    names = (f"{symbol(i).lower()}@{kind}" for i in instruments for kind in ("bookTicker", "aggTrade", "kline_1m"))
    return StreamSpec(f"/stream?streams={'/'.join(names)}", partial(parse_frame, {symbol(i): i for i in instruments}))


def parse_frame(symbols: Mapping[str, Instrument], frame: str | bytes, now: int) -> Sequence[Event]:
    """One frame of the combined stream. A best price has no time of its own, only a growing number."""
    message = _frame_decoder.decode(frame)
    if message.error is not None:
        return [ExchangeRefusal(f"Binance says: {message.error.get('msg', '')}", 10)]
    if message.stream == "!serverShutdown":
        return [Reconnect("the server shuts down")]
    if message.stream.endswith("@bookTicker"):
        best = _book_ticker_decoder.decode(message.data)
        return _to_quote(symbols.get(best.s), best, now)
    if message.stream.endswith("@aggTrade"):
        trade = _agg_trade_decoder.decode(message.data)
        return _to_trade(symbols.get(trade.s), trade, now)
    if message.stream.endswith("@kline_1m"):
        minute = _kline_decoder.decode(message.data).k
        return _to_kline(symbols.get(minute.s), minute)
    return []


def _to_quote(instrument: Instrument | None, best: _BookTicker | _PolledBookTicker, now: int) -> Sequence[Event]:
    bid, ask = nonzero(best.b), nonzero(best.a)
    if instrument is None or not (bid or ask):
        return []
    return [SequencedQuote(Quote(NAME, instrument, now, bid=bid, ask=ask), best.u)]


def _to_trade(instrument: Instrument | None, trade: _AggTrade, now: int) -> Sequence[Event]:
    if instrument is None:
        return []
    fills = trade.l - trade.f + 1  # which is what bars count
    return [Trade(NAME, instrument, now, trade.T, trade.p, trade.q, trade.a, fills, trade.m)]


def _to_kline(instrument: Instrument | None, minute: _StreamKline) -> Sequence[Event]:
    if instrument is None or not minute.x:
        return []
    m, series = minute, Series(NAME, instrument, "1m")
    return [Kline(series, Bar(m.t, m.o, m.h, m.l, m.c, m.v, m.q, m.n))]


def instrument_status(instrument: Instrument) -> RestCall:
    """Does it trade? Dead symbols stay listed, and some prices of theirs are still served."""
    return RestCall(f"/api/v3/exchangeInfo?symbol={symbol(instrument)}", partial(_parse_instrument_status, instrument))


def _parse_instrument_status(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    status = next(
        (s.status for s in _exchange_info_decoder.decode(body).symbols if s.symbol == symbol(instrument)), "not listed"
    )
    return [InstrumentStatus(instrument, status == "TRADING", status)]


def find_instrument(symbol: str) -> RestCall:
    """Which pair is it? BTCUSDT does not say where its base ends."""
    return RestCall(f"/api/v3/exchangeInfo?symbol={quote(symbol)}", partial(_parse_found_instrument, symbol))


def _parse_found_instrument(symbol: str, body: bytes, now: int) -> Sequence[Event]:
    found = [each for each in _exchange_info_decoder.decode(body).symbols if each.symbol == symbol and each.baseAsset]
    return [
        InstrumentStatus(Instrument(each.baseAsset, each.quoteAsset), each.status == "TRADING", each.status)
        for each in found
    ]


def poll(instruments: Instruments, due: Mapping[Instrument, int]) -> tuple[RestCall, ...]:
    """Best prices of all, and the trades of each since the last one known."""
    if not instruments:
        return ()
    symbols = {symbol(i): i for i in instruments}
    names = quote(msgspec.json.encode(list(symbols)).decode())
    best = RestCall(f"/api/v3/ticker/bookTicker?symbols={names}", partial(_parse_book_tickers, symbols))
    return best, *(_agg_trades_call(i, due.get(i), MAX_ROWS) for i in instruments)


def _parse_book_tickers(symbols: Mapping[str, Instrument], body: bytes, now: int) -> Sequence[Event]:
    return [
        event
        for best in decode_rows(_PolledBookTicker, body, "best prices")
        for event in ([best] if isinstance(best, InvalidValue) else _to_quote(symbols.get(best.s), best, now))
    ]


def refetch_trades(instrument: Instrument, numbers: range) -> RestCall:
    """Trades again, from the first of `numbers`."""
    return _agg_trades_call(instrument, numbers.start, min(len(numbers), MAX_ROWS))


def _agg_trades_call(instrument: Instrument, first: int | None, count: int) -> RestCall:
    query = {"symbol": symbol(instrument), **({"limit": 1} if first is None else {"fromId": first, "limit": count})}
    return RestCall(f"/api/v3/aggTrades?{urlencode(query)}", partial(_parse_agg_trades, instrument))


def _parse_agg_trades(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    return [
        event
        for trade in decode_rows(_AggTrade, body, str(instrument))
        for event in ([trade] if isinstance(trade, InvalidValue) else _to_trade(instrument, trade, now))
    ]


def klines(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall:
    """Its intervals are called as our timeframes are. One bar more is asked for: that it exists closes the others."""
    end = TIMEFRAMES[timeframe].close_time(until)
    query = {"symbol": symbol(instrument), "interval": timeframe, "startTime": since, "endTime": end}
    series = Series(NAME, instrument, timeframe)
    return RestCall(f"/api/v3/klines?{urlencode(query | {'limit': MAX_ROWS})}", partial(_parse_klines, series), True)


def _parse_klines(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """The last row may be forming still. `now` is its clock's."""
    found = decode_rows(_KlineRow, body, f"{series.instrument} {series.timeframe}")
    last = found[-1] if found else None
    over = found[:-1] if isinstance(last, _KlineRow) and last.ends >= now - MAX_CLOCK_SKEW_MS else found
    return [r if isinstance(r, InvalidValue) else Kline(series, _to_bar(r)) for r in over]


def _to_bar(row: _KlineRow) -> Bar:
    r = row
    return Bar(r.opened, r.open, r.high, r.low, r.close, r.volume, r.quote_volume, r.trades)


def retry_delay(answer: RestResponse, now: int) -> float:
    """What `Retry-After` or a ban says; the rest of the minute when two thirds of the address's weight are used."""
    used = answer.headers.get(USED_WEIGHT_HEADER, "0")
    if used.isascii() and used.isdigit() and int(used[:9]) > WEIGHT_PER_MINUTE * 2 // 3:
        return max(retry_after_seconds(answer, now), 60 - now / 1000 % 60)
    return retry_after_seconds(answer, now)


def error_text(body: bytes) -> str:
    """`{"code": -1121, "msg": "Invalid symbol."}`; a firewall answers in HTML or nothing."""
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
    ws_urls=(
        "wss://stream.binance.com:9443",
        "wss://data-stream.binance.vision",
        "wss://stream.binance.com:443",
    ),
    stream=stream,
    instrument_status=instrument_status,
    instrument_status_weight=EXCHANGE_INFO_WEIGHT,
    find_instrument=find_instrument,
    poll=poll,
    refetch_trades=refetch_trades,
    klines=klines,
    klines_per_call=MAX_ROWS - 1,
    kline_weight=KLINES_WEIGHT,
    kline_budget=WEIGHT_PER_MINUTE // 5,
)
