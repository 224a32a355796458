"""Binance spot: best prices, trades and closed minutes by one combined stream, by REST while no stream can be had."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.exchange import (
    Answer,
    Ask,
    Event,
    Exchange,
    Heard,
    Instruments,
    Presence,
    Refused,
    Rejected,
    Renew,
    Stream,
    given,
    retry_after,
    rows,
)
from services.core.model import Bar, Instrument, Kline, Series, Tick, Trade
from services.core.timeframes import TIMEFRAMES

NAME = "binance"
WEIGHT = 6000  # a minute and address; all that share the address share it
WEIGHT_USED = "x-mbx-used-weight-1m"
LISTING_WEIGHT, HISTORY_WEIGHT = 20, 2
AT_ONCE = 1000  # trades or bars in one answer
SKEW = 1_000  # ms that what is known of its clock may be ahead of it


class _Frame(Struct):
    stream: str = ""
    data: Raw = Raw(b"null")
    error: dict[str, object] | None = None


class _Quote(Struct):
    u: int
    s: str
    b: Decimal
    a: Decimal


class _Traded(Struct):
    """The parts of a trade that stream and REST share; `s` only the stream has."""

    a: int
    p: Decimal
    q: Decimal
    T: int
    m: bool
    f: int
    l: int  # noqa: E741  its name on the wire
    s: str = ""


class _Minute(Struct):
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


class _MinuteNews(Struct):
    k: _Minute


class _Row(Struct, array_like=True):
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


class _PolledQuote(Struct, rename={"s": "symbol", "b": "bidPrice", "a": "askPrice"}):
    s: str
    b: Decimal
    a: Decimal
    u: int | None = None  # only the stream numbers them


class _Symbol(Struct):
    symbol: str
    status: str
    baseAsset: str = ""  # noqa: N815  as on the wire
    quoteAsset: str = ""  # noqa: N815


class _Listing(Struct):
    symbols: list[_Symbol]


class _Complaint(Struct):
    msg: str = ""


_frame = msgspec.json.Decoder(_Frame)
_quote = msgspec.json.Decoder(_Quote)
_trade = msgspec.json.Decoder(_Traded)
_minute = msgspec.json.Decoder(_MinuteNews)
_listing = msgspec.json.Decoder(_Listing)
_complaint = msgspec.json.Decoder(_Complaint)


def symbol(instrument: Instrument) -> str:
    """BTCUSDT."""
    return f"{instrument.base}{instrument.quote}"


def stream(instruments: Instruments) -> Stream:
    """All in the URL: nothing needs to be sent, so the limit on messages cannot be met."""
    names = (f"{symbol(i).lower()}@{kind}" for i in instruments for kind in ("bookTicker", "aggTrade", "kline_1m"))
    return Stream(f"/stream?streams={'/'.join(names)}", partial(read, {symbol(i): i for i in instruments}))


def read(symbols: Mapping[str, Instrument], frame: str | bytes, now: int) -> Sequence[Event]:
    """One frame of the combined stream. A best price has no time of its own, only a growing number."""
    message = _frame.decode(frame)
    if message.error is not None:
        return [Refused(f"Binance says: {message.error.get('msg', '')}", 10)]
    if message.stream == "!serverShutdown":
        return [Renew("the server shuts down")]
    if message.stream.endswith("@bookTicker"):
        best = _quote.decode(message.data)
        return _heard(symbols.get(best.s), best, now)
    if message.stream.endswith("@aggTrade"):
        trade = _trade.decode(message.data)
        return _traded(symbols.get(trade.s), trade, now)
    if message.stream.endswith("@kline_1m"):
        minute = _minute.decode(message.data).k
        return _closed(symbols.get(minute.s), minute)
    return []


def _heard(instrument: Instrument | None, best: _Quote | _PolledQuote, now: int) -> Sequence[Event]:
    bid, ask = given(best.b), given(best.a)
    if instrument is None or not (bid or ask):
        return []
    return [Heard(Tick(NAME, instrument, now, bid=bid, ask=ask), best.u)]


def _traded(instrument: Instrument | None, trade: _Traded, now: int) -> Sequence[Event]:
    if instrument is None:
        return []
    fills = trade.l - trade.f + 1  # which is what bars count
    return [Trade(NAME, instrument, now, trade.T, trade.p, trade.q, trade.a, fills, trade.m)]


def _closed(instrument: Instrument | None, minute: _Minute) -> Sequence[Event]:
    if instrument is None or not minute.x:
        return []
    m, series = minute, Series(NAME, instrument, "1m")
    return [Kline(series, Bar(m.t, m.o, m.h, m.l, m.c, m.v, m.q, m.n))]


def listing(instrument: Instrument) -> Ask:
    """Does it trade? Dead symbols stay listed, and some prices of theirs are still served."""
    return Ask(f"/api/v3/exchangeInfo?symbol={symbol(instrument)}", partial(_listed, instrument))


def _listed(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    status = next((s.status for s in _listing.decode(body).symbols if s.symbol == symbol(instrument)), "not listed")
    return [Presence(instrument, status == "TRADING", status)]


def lookup(symbol: str) -> Ask:
    """Which pair is it? BTCUSDT does not say where its base ends."""
    return Ask(f"/api/v3/exchangeInfo?symbol={quote(symbol)}", partial(_looked_up, symbol))


def _looked_up(symbol: str, body: bytes, now: int) -> Sequence[Event]:
    found = [each for each in _listing.decode(body).symbols if each.symbol == symbol and each.baseAsset]
    return [
        Presence(Instrument(each.baseAsset, each.quoteAsset), each.status == "TRADING", each.status) for each in found
    ]


def poll(instruments: Instruments, due: Mapping[Instrument, int]) -> tuple[Ask, ...]:
    """Best prices of all, and the trades of each since the last one known."""
    if not instruments:
        return ()
    symbols = {symbol(i): i for i in instruments}
    names = quote(msgspec.json.encode(list(symbols)).decode())
    best = Ask(f"/api/v3/ticker/bookTicker?symbols={names}", partial(_polled, symbols))
    return best, *(_trades_from(i, due.get(i), AT_ONCE) for i in instruments)


def _polled(symbols: Mapping[str, Instrument], body: bytes, now: int) -> Sequence[Event]:
    return [
        event
        for best in rows(_PolledQuote, body, "best prices")
        for event in ([best] if isinstance(best, Rejected) else _heard(symbols.get(best.s), best, now))
    ]


def missed(instrument: Instrument, numbers: range) -> Ask:
    """Trades again, from the first of `numbers`."""
    return _trades_from(instrument, numbers.start, min(len(numbers), AT_ONCE))


def _trades_from(instrument: Instrument, first: int | None, count: int) -> Ask:
    query = {"symbol": symbol(instrument), **({"limit": 1} if first is None else {"fromId": first, "limit": count})}
    return Ask(f"/api/v3/aggTrades?{urlencode(query)}", partial(_read_trades, instrument))


def _read_trades(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    return [
        event
        for trade in rows(_Traded, body, str(instrument))
        for event in ([trade] if isinstance(trade, Rejected) else _traded(instrument, trade, now))
    ]


def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask:
    """Its intervals are called as our timeframes are. One bar more is asked for: that it exists closes the others."""
    end = TIMEFRAMES[timeframe].closing(until)
    query = {"symbol": symbol(instrument), "interval": timeframe, "startTime": since, "endTime": end}
    series = Series(NAME, instrument, timeframe)
    return Ask(f"/api/v3/klines?{urlencode(query | {'limit': AT_ONCE})}", partial(_read_rows, series), True)


def _read_rows(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """The last row may be forming still. `now` is its clock's."""
    found = rows(_Row, body, f"{series.instrument} {series.timeframe}")
    last = found[-1] if found else None
    over = found[:-1] if isinstance(last, _Row) and last.ends >= now - SKEW else found
    return [r if isinstance(r, Rejected) else Kline(series, _bar(r)) for r in over]


def _bar(row: _Row) -> Bar:
    r = row
    return Bar(r.opened, r.open, r.high, r.low, r.close, r.volume, r.quote_volume, r.trades)


def wait(answer: Answer, now: int) -> float:
    """What `Retry-After` or a ban says; the rest of the minute when two thirds of the address's weight are used."""
    used = answer.headers.get(WEIGHT_USED, "0")
    if used.isascii() and used.isdigit() and int(used[:9]) > WEIGHT * 2 // 3:
        return max(retry_after(answer, now), 60 - now / 1000 % 60)
    return retry_after(answer, now)


def complaint(body: bytes) -> str:
    """`{"code": -1121, "msg": "Invalid symbol."}`; a firewall answers in HTML or nothing."""
    try:
        return _complaint.decode(body).msg
    except ValueError:
        return ""


EXCHANGE = Exchange(
    name=NAME,
    rests=(
        "https://api.binance.com",
        "https://data-api.binance.vision",
        "https://api-gcp.binance.com",
        *(f"https://api{number}.binance.com" for number in (1, 2, 3, 4)),
    ),
    ping="/api/v3/ping",
    complaint=complaint,
    wait=wait,
    sockets=(
        "wss://stream.binance.com:9443",
        "wss://data-stream.binance.vision",
        "wss://stream.binance.com:443",
    ),
    stream=stream,
    listing=listing,
    listing_weight=LISTING_WEIGHT,
    lookup=lookup,
    poll=poll,
    missed=missed,
    history=history,
    history_bars=AT_ONCE - 1,
    history_weight=HISTORY_WEIGHT,
    history_budget=WEIGHT // 5,
)
