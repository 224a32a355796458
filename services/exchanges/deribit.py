"""Deribit: price indices and the perpetuals' best prices by JSON-RPC over one WebSocket, their candles over HTTP."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from urllib.parse import urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.exchange import (
    Answer,
    Ask,
    Event,
    Exchange,
    Heard,
    Instruments,
    Limit,
    Presence,
    Refused,
    Rejected,
    Send,
    Stream,
    given,
    retry_after,
    row,
)
from services.core.model import Bar, Instrument, Kline, Series, Tick
from services.core.timeframes import TIMEFRAMES

NAME = "deribit"
HEARTBEAT = 10  # seconds, the shortest it takes
# Errors after which it may be better, and the seconds to leave it alone. 10028: we asked too often, and an early
# return keeps the account of credits at nothing.
WAITS = {
    10028: 10,
    10040: 1,
    10041: 5,
    10047: 5,
    10066: 5,
    11051: 30,
    11056: 60,
    11094: 5,
    13028: 10,
    13888: 1,
}
RESOLUTIONS = {
    "1m": "1",
    "3m": "3",
    "5m": "5",
    "15m": "15",
    "30m": "30",
    "1h": "60",
    "2h": "120",
    "6h": "360",
    "12h": "720",
    "1d": "1D",
}
HOPELESS = 300  # seconds, after an error that a new attempt will hardly mend


class _Error(Struct):
    code: int
    message: str = ""


class _Params(Struct):
    type: str = ""
    channel: str = ""
    data: Raw = Raw(b"null")


class _Frame(Struct):
    id: int | str | None = None
    method: str = ""
    params: _Params | None = None
    result: Raw = Raw(b"null")
    error: _Error | None = None


class _Index(Struct):
    timestamp: int
    price: Decimal | None


class _Ticker(Struct):
    timestamp: int
    state: str = ""
    best_bid_price: Decimal | None = None
    best_ask_price: Decimal | None = None
    mark_price: Decimal | None = None


class _Platform(Struct):
    price_index: str | None = None
    locked: bool | str = False
    maintenance: bool | str = False


class _Status(Struct):
    locked: bool | str = False
    locked_indices: list[str] = []
    locked_currencies: list[str] = []


class _Bars(Struct):
    """Columns of equal length, of which each row is read by itself; none when there is nothing."""

    ticks: list[Raw] = []
    open: list[Raw] = []
    high: list[Raw] = []
    low: list[Raw] = []
    close: list[Raw] = []
    volume: list[Raw] = []
    cost: list[Raw] = []


class _Row(Struct, array_like=True):
    opened: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    cost: Decimal


class _Chart(Struct):
    result: _Bars
    sent: int = msgspec.field(name="usOut")  # its clock, in µs


_frame = msgspec.json.Decoder(_Frame)
_index = msgspec.json.Decoder(_Index)
_ticker = msgspec.json.Decoder(_Ticker)
_platform = msgspec.json.Decoder(_Platform)
_status = msgspec.json.Decoder(_Status)
_chart = msgspec.json.Decoder(_Chart)
_names = msgspec.json.Decoder(list[str])

SUBSCRIBE, STATUS, TEST, BEAT = 1, 2, 3, 4  # ids of our requests


def channel(instrument: Instrument) -> str:
    """deribit_price_index.btc_usd or ticker.BTC-PERPETUAL.100ms (`raw` is for those who log in)."""
    if not instrument.contract:
        return f"deribit_price_index.{instrument.base.lower()}_{instrument.quote.lower()}"
    return f"ticker.{name(instrument)}.100ms"


def name(instrument: Instrument) -> str:
    """BTC-PERPETUAL or ETH_USDC-PERPETUAL."""
    pair = instrument.base if instrument.quote == "USD" else f"{instrument.base}_{instrument.quote}"
    return f"{pair}-{instrument.contract}"


def request(number: int, method: str, **params: object) -> str:
    """One JSON-RPC call."""
    call = {"jsonrpc": "2.0", "id": number, "method": f"public/{method}", "params": params}
    return msgspec.json.encode(call).decode()


def stream(instruments: Instruments) -> Stream:
    """One subscription for all; the heartbeat proves the connection both ways."""
    channels = {channel(i): i for i in instruments}
    greeting = (
        request(BEAT, "set_heartbeat", interval=HEARTBEAT),
        request(SUBSCRIBE, "subscribe", channels=[*channels, "platform_state"]),
        request(STATUS, "status"),
    )
    return Stream("/ws/api/v2", partial(read, channels), greeting)


def read(channels: Mapping[str, Instrument], frame: str | bytes, now: int) -> Sequence[Event]:
    """One frame: a reply when it has an id, else a subscription's news or a heartbeat."""
    message = _frame.decode(frame)
    if message.error is not None:
        return [] if message.id == STATUS else [refused(message.error)]
    if message.id == SUBSCRIBE:
        return _subscribed(channels, _names.decode(message.result))
    if message.id == STATUS:
        return _locked(channels, _status.decode(message.result))
    if message.method == "heartbeat" and message.params and message.params.type == "test_request":
        return [Send(request(TEST, "test"))]
    if message.method == "subscription" and message.params:
        return _news(channels, message.params, now)
    return []


def refused(error: _Error) -> Refused:
    """An error in our words. After each of them the connection is of no more use, or gone already."""
    return Refused(f"Deribit says: {error.message} ({error.code})", WAITS.get(error.code, HOPELESS))


def _subscribed(channels: Mapping[str, Instrument], granted: Sequence[str]) -> Sequence[Event]:
    """What it does not know it leaves out without a word, and the order is its own."""
    given = set(granted)
    return [Presence(i, name in given, "" if name in given else "not granted") for name, i in channels.items()]


def _locked(channels: Mapping[str, Instrument], status: _Status) -> Sequence[Event]:
    locked = {name.lower() for name in status.locked_indices + status.locked_currencies}
    every = str(status.locked).lower() == "true"
    return [
        Presence(instrument, False, "locked")
        for name, instrument in channels.items()
        if every or locked & {name.removeprefix("deribit_price_index."), instrument.base.lower()}
    ]


def _news(channels: Mapping[str, Instrument], params: _Params, now: int) -> Sequence[Event]:
    if params.channel == "platform_state":
        return _platform_news(channels, _platform.decode(params.data))
    instrument = channels.get(params.channel)
    if instrument is None:
        return []
    return (
        _ticker_news(instrument, params.data, now) if instrument.contract else _index_news(instrument, params.data, now)
    )


def _index_news(instrument: Instrument, data: Raw, now: int) -> Sequence[Event]:
    index = _index.decode(data)
    price = given(index.price)
    return [Heard(Tick(NAME, instrument, now, index.timestamp, price=price), index.timestamp)] if price else []


def _ticker_news(instrument: Instrument, data: Raw, now: int) -> Sequence[Event]:
    ticker = _ticker.decode(data)
    if ticker.state != "open":
        return [Presence(instrument, False, ticker.state)]
    bid, ask, mark = (given(p) for p in (ticker.best_bid_price, ticker.best_ask_price, ticker.mark_price))
    tick = Tick(NAME, instrument, now, ticker.timestamp, bid=bid, ask=ask, price=mark)
    return [Presence(instrument, True), *([Heard(tick, ticker.timestamp)] if bid or ask or mark else [])]


def _platform_news(channels: Mapping[str, Instrument], state: _Platform) -> Sequence[Event]:
    if str(state.maintenance).lower() == "true":
        return [Refused("Deribit is under maintenance", WAITS[11051])]
    instrument = channels.get(f"deribit_price_index.{state.price_index}")
    locked = str(state.locked).lower() == "true"
    return [Presence(instrument, not locked, "locked" if locked else "")] if instrument else []


def history(instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
    """Indices have no candles. A bar at the very start may be left out, so that one more is asked for."""
    if not instrument.contract or timeframe not in RESOLUTIONS:
        return None
    query = {
        "instrument_name": name(instrument),
        "start_timestamp": TIMEFRAMES[timeframe].back(since, 1),
        "end_timestamp": until,
        "resolution": RESOLUTIONS[timeframe],
    }
    read = partial(_read_bars, Series(NAME, instrument, timeframe))
    return Ask(f"/api/v2/public/get_tradingview_chart_data?{urlencode(query)}", read, True)


def _read_bars(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """The last bar may be forming still. Trades are not counted; the volume is in the base, the cost in the quote."""
    chart, timeframe = _chart.decode(body), TIMEFRAMES[series.timeframe]
    c, subject = chart.result, f"{series.instrument} {series.timeframe}"
    columns = zip(c.ticks, c.open, c.high, c.low, c.close, c.volume, c.cost, strict=True)
    found = [row(_Row, b"[%s]" % b",".join(map(bytes, values)), subject) for values in columns]
    return [
        r
        if isinstance(r, Rejected)
        else Kline(series, Bar(r.opened, r.open, r.high, r.low, r.close, r.volume, r.cost, 0))
        for r in found
        if isinstance(r, Rejected) or not r.opened <= chart.sent // 1000 < timeframe.closing(r.opened)
    ]


def wait(answer: Answer, now: int) -> float:
    """A refused upgrade: 429 when there are too many connections."""
    return retry_after(answer, now)


def complaint(body: bytes) -> str:
    """The error of a JSON-RPC answer."""
    try:
        error = _frame.decode(body).error
    except ValueError:
        return ""
    return f"{error.message} ({error.code})" if error else ""


EXCHANGE = Exchange(
    name=NAME,
    rests=("https://www.deribit.com",),
    ping="/api/v2/public/test",
    complaint=complaint,
    wait=wait,
    sockets=("wss://www.deribit.com",),
    stream=stream,
    lifetime=6 * 3600,  # what it did not grant is asked for again with each connection
    connects=Limit(30, 60),
    sends=Limit(3, 1),
    history=history,
    history_budget=300,  # calls; by the second it would take several
)
