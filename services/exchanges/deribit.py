"""Deribit: price indices and the perpetuals' best prices by JSON-RPC over one WebSocket, their candles over HTTP.

https://docs.deribit.com/subscriptions/market-data/deribit_price_indexindex_name,
https://docs.deribit.com/subscriptions/market-data/tickerinstrument_nameinterval,
https://docs.deribit.com/api-reference/market-data/public-get_tradingview_chart_data.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from urllib.parse import urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.conversion import FIAT, inverse
from services.core.exchange import (
    Event,
    Exchange,
    ExchangeRefusal,
    Instruments,
    InstrumentStatus,
    InvalidValue,
    OwnLeg,
    OwnRoute,
    RateLimit,
    RestCall,
    RestResponse,
    SendFrame,
    SequencedQuote,
    StreamSpec,
    decode_row,
    decode_rows,
    nonzero,
    retry_after_seconds,
)
from services.core.model import Bar, Instrument, Kline, Quote, Series
from services.core.timeframes import TIMEFRAMES
from services.core.trading_rules import TradingRules

NAME = "deribit"
HEARTBEAT_SECONDS = 10  # the shortest that it accepts
DOLLAR_INDICES = frozenset({"BTC", "ETH"})  # the assets with an index in USD; the others have one in USDC
# Errors after which a later attempt may succeed. 10028: too many requests; an early return keeps the credits at zero.
RETRY_SECONDS_BY_CODE = {
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
DEFAULT_RETRY_SECONDS = 300  # after an error that a later attempt will hardly avoid


class _JsonRpcError(Struct):
    code: int
    message: str = ""


class _NotificationParams(Struct):
    type: str = ""
    channel: str = ""
    data: Raw = Raw(b"null")


class _RpcMessage(Struct):
    id: int | str | None = None
    method: str = ""
    params: _NotificationParams | None = None
    result: Raw = Raw(b"null")
    error: _JsonRpcError | None = None


class _PriceIndex(Struct):
    timestamp: int
    price: Decimal | None


class _Ticker(Struct):
    timestamp: int
    state: str = ""
    best_bid_price: Decimal | None = None
    best_ask_price: Decimal | None = None
    mark_price: Decimal | None = None


class _PlatformState(Struct):
    price_index: str | None = None
    locked: bool | str = False
    maintenance: bool | str = False


class _LockStatus(Struct):
    locked: bool | str = False
    locked_indices: list[str] = []
    locked_currencies: list[str] = []


class _InstrumentTerms(Struct):
    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    state: str
    tick_size: Decimal
    contract_size: Decimal
    min_trade_amount: Decimal
    maker_commission: Decimal
    taker_commission: Decimal


class _ListResponse(Struct):
    result: Raw


class _IndexResult(Struct):
    index_price: Decimal


class _IndexResponse(Struct):
    result: _IndexResult


class _ChartColumns(Struct):
    """Columns of equal length, of which each row is read by itself; none when there is nothing."""

    ticks: list[Raw] = []
    open: list[Raw] = []
    high: list[Raw] = []
    low: list[Raw] = []
    close: list[Raw] = []
    volume: list[Raw] = []
    cost: list[Raw] = []


class _ChartRow(Struct, array_like=True):
    opened: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    cost: Decimal


class _ChartResponse(Struct):
    result: _ChartColumns
    sent: int = msgspec.field(name="usOut")  # its clock, in µs


_message_decoder = msgspec.json.Decoder(_RpcMessage)
_index_decoder = msgspec.json.Decoder(_PriceIndex)
_ticker_decoder = msgspec.json.Decoder(_Ticker)
_platform_decoder = msgspec.json.Decoder(_PlatformState)
_lock_status_decoder = msgspec.json.Decoder(_LockStatus)
_chart_decoder = msgspec.json.Decoder(_ChartResponse)
_list_decoder = msgspec.json.Decoder(_ListResponse)
_index_price_decoder = msgspec.json.Decoder(_IndexResponse)
_names_decoder = msgspec.json.Decoder(list[str])

SUBSCRIBE_ID, STATUS_ID, TEST_ID, HEARTBEAT_ID = 1, 2, 3, 4  # ids of our requests


def route(base: str, quote: str) -> OwnRoute | None:
    """By indices: an asset's own, and back by the quote's where both are in the same currency."""
    if base in FIAT:
        return None
    legs, currency = _index_of(base)
    if quote in FIAT or quote == currency:
        return OwnRoute(legs, currency)
    quote_legs, quote_currency = _index_of(quote)
    return OwnRoute(legs + inverse(quote_legs), quote) if currency == quote_currency else None


def _index_of(asset: str) -> tuple[tuple[OwnLeg, ...], str]:
    """An asset's index and its currency. There is no index of USDT in USD, only one of USDC in USDT."""
    if asset in DOLLAR_INDICES:
        return (OwnLeg(Instrument(asset, "USD")),), "USD"
    if asset == "USDT":
        return (OwnLeg(Instrument("USDC", "USDT"), inverted=True),), "USDC"
    return (OwnLeg(Instrument(asset, "USDC")),), "USDC"


def contracts(symbols: Instruments) -> set[Instrument]:
    """Return the contracts among the symbols, and the perpetual of each symbol that has one."""
    perpetuals = {Instrument(s.base, "USD", "PERPETUAL") for s in symbols if s.base in DOLLAR_INDICES}
    return perpetuals | {symbol for symbol in symbols if symbol.contract}


def channel_name(instrument: Instrument) -> str:
    """deribit_price_index.btc_usd or ticker.BTC-PERPETUAL.100ms (`raw` needs an account)."""
    if not instrument.contract:
        return f"deribit_price_index.{index_name(instrument)}"
    return f"ticker.{instrument_name(instrument)}.100ms"


def instrument_name(instrument: Instrument) -> str:
    """BTC-PERPETUAL or ETH_USDC-PERPETUAL."""
    pair = instrument.base if instrument.quote == "USD" else f"{instrument.base}_{instrument.quote}"
    return f"{pair}-{instrument.contract}"


def rpc_request(number: int, method: str, **params: object) -> str:
    """Encode a JSON-RPC call."""
    call = {"jsonrpc": "2.0", "id": number, "method": f"public/{method}", "params": params}
    return msgspec.json.encode(call).decode()


def stream(instruments: Instruments) -> StreamSpec:
    """One subscription for all; the heartbeat proves the connection both ways."""
    channels = {channel_name(i): i for i in instruments}
    on_open = (
        rpc_request(HEARTBEAT_ID, "set_heartbeat", interval=HEARTBEAT_SECONDS),
        rpc_request(SUBSCRIBE_ID, "subscribe", channels=[*channels, "platform_state"]),
        rpc_request(STATUS_ID, "status"),
    )
    return StreamSpec("/ws/api/v2", partial(parse_frame, channels), on_open)


# {"jsonrpc":"2.0","method":"subscription","params":{"channel":"deribit_price_index.eth_usd",
#  "data":{"timestamp":1790165113481,"price":2722.4,"index_name":"eth_usd"}}}
# {"jsonrpc":"2.0","id":1,"result":["ticker.BTC-PERPETUAL.100ms","platform_state","deribit_price_index.eth_usd"],
#  "usIn":1765525372073376,"usOut":1765525372073529,"usDiff":153,"testnet":true}
# {"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}
def parse_frame(channels: Mapping[str, Instrument], frame: str | bytes, now: int) -> Sequence[Event]:
    """Parse a frame: a reply, which has an id, a subscription's notification or a heartbeat."""
    message = _message_decoder.decode(frame)
    if message.error is not None:
        return [] if message.id == STATUS_ID else [to_refusal(message.error)]
    if message.id == SUBSCRIBE_ID:
        return _parse_subscribed(channels, _names_decoder.decode(message.result))
    if message.id == STATUS_ID:
        return _parse_lock_status(channels, _lock_status_decoder.decode(message.result))
    if message.method == "heartbeat" and message.params and message.params.type == "test_request":
        return [SendFrame(rpc_request(TEST_ID, "test"))]
    if message.method == "subscription" and message.params:
        return _parse_notification(channels, message.params, now)
    return []


def to_refusal(error: _JsonRpcError) -> ExchangeRefusal:
    """Return the refusal of an error. After each of them the connection is of no more use, or closed already."""
    return ExchangeRefusal(
        f"Deribit: {error.message} ({error.code})", RETRY_SECONDS_BY_CODE.get(error.code, DEFAULT_RETRY_SECONDS)
    )


def _parse_subscribed(channels: Mapping[str, Instrument], granted: Sequence[str]) -> Sequence[Event]:
    """A channel that it does not know is omitted without an error, and the order is its own."""
    accepted = set(granted)
    return [
        InstrumentStatus(instrument, name in accepted, "" if name in accepted else "not granted")
        for name, instrument in channels.items()
    ]


def _parse_lock_status(channels: Mapping[str, Instrument], status: _LockStatus) -> Sequence[Event]:
    locked = {name.lower() for name in status.locked_indices + status.locked_currencies}
    every = str(status.locked).lower() == "true"
    return [
        InstrumentStatus(instrument, False, "locked")
        for name, instrument in channels.items()
        if every or locked & {name.removeprefix("deribit_price_index."), instrument.base.lower()}
    ]


def _parse_notification(channels: Mapping[str, Instrument], params: _NotificationParams, now: int) -> Sequence[Event]:
    if params.channel == "platform_state":
        return _parse_platform_state(channels, _platform_decoder.decode(params.data))
    instrument = channels.get(params.channel)
    if instrument is None:
        return []
    parse = _parse_ticker if instrument.contract else _parse_index
    return parse(instrument, params.data, now)


def _parse_index(instrument: Instrument, data: Raw, now: int) -> Sequence[Event]:
    index = _index_decoder.decode(data)
    if (price := nonzero(index.price)) is None:
        return []
    return [SequencedQuote(Quote(NAME, instrument, now, index.timestamp, price=price), index.timestamp)]


# {"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.100ms","data":{
#  "timestamp":1765541474086,"state":"open","mark_price":92281.78,"best_ask_price":92284.0,"best_bid_price":92283.5,…}}}
def _parse_ticker(instrument: Instrument, data: Raw, now: int) -> Sequence[Event]:
    ticker = _ticker_decoder.decode(data)
    if ticker.state != "open":
        return [InstrumentStatus(instrument, False, ticker.state)]
    bid, ask, mark = (nonzero(p) for p in (ticker.best_bid_price, ticker.best_ask_price, ticker.mark_price))
    quote = Quote(NAME, instrument, now, ticker.timestamp, bid=bid, ask=ask, price=mark)
    trading = InstrumentStatus(instrument, True)
    return [trading, SequencedQuote(quote, ticker.timestamp)] if bid or ask or mark else [trading]


def _parse_platform_state(channels: Mapping[str, Instrument], state: _PlatformState) -> Sequence[Event]:
    if str(state.maintenance).lower() == "true":
        return [ExchangeRefusal("Deribit is under maintenance", RETRY_SECONDS_BY_CODE[11051])]
    instrument = channels.get(f"deribit_price_index.{state.price_index}")
    locked = str(state.locked).lower() == "true"
    return [InstrumentStatus(instrument, not locked, "locked" if locked else "")] if instrument else []


def klines(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
    """Indices have no candles. The candle at the very start may be missing, so that one more is requested."""
    if not instrument.contract or timeframe not in RESOLUTIONS:
        return None
    query = {
        "instrument_name": instrument_name(instrument),
        "start_timestamp": TIMEFRAMES[timeframe].step_back(since, 1),
        "end_timestamp": until,
        "resolution": RESOLUTIONS[timeframe],
    }
    parse = partial(_parse_chart, Series(NAME, instrument, timeframe))
    return RestCall(f"/api/v2/public/get_tradingview_chart_data?{urlencode(query)}", parse, True)


# {"id":2,"jsonrpc":"2.0","result":{"close":[87456.5,…],"cost":[257490.0,…],"high":[87456.5,…],"low":[87451.0,…],
#  "open":[87451.0,…],"status":"ok","ticks":[1766483460000,…],"volume":[2.94375216,…]},"usIn":…,"usOut":…}
def _parse_chart(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """Parse candles; the last one may be forming. It counts no trades; volume is in the base, cost in the quote."""
    chart, timeframe = _chart_decoder.decode(body), TIMEFRAMES[series.timeframe]
    c, subject = chart.result, f"{series.instrument} {series.timeframe}"
    columns = zip(c.ticks, c.open, c.high, c.low, c.close, c.volume, c.cost, strict=True)
    rows = [decode_row(_ChartRow, b"[%s]" % b",".join(map(bytes, values)), subject) for values in columns]
    return [
        r
        if isinstance(r, InvalidValue)
        else Kline(series, Bar(r.opened, r.open, r.high, r.low, r.close, r.volume, r.cost, 0))
        for r in rows
        if isinstance(r, InvalidValue) or not r.opened <= chart.sent // 1000 < timeframe.close_time(r.opened)
    ]


def index_price(instrument: Instrument) -> RestCall:
    """The current price of an index."""
    path = f"/api/v2/public/get_index_price?index_name={index_name(instrument)}"
    return RestCall(path, partial(_parse_index_price, instrument))


def index_name(instrument: Instrument) -> str:
    """btc_usd."""
    return f"{instrument.base}_{instrument.quote}".lower()


# {"jsonrpc":"2.0","result":{"index_price":87003.12,"estimated_delivery_price":87003.12},"usIn":…,"usOut":…,"usDiff":…}
def _parse_index_price(instrument: Instrument, body: bytes, now: int) -> Sequence[Event]:
    return [SequencedQuote(Quote(NAME, instrument, now, price=_index_price_decoder.decode(body).result.index_price))]


# {"jsonrpc":"2.0","result":[{"instrument_name":"BTC-PERPETUAL","kind":"future","base_currency":"BTC",
#  "quote_currency":"USD","state":"open","tick_size":0.5,"contract_size":10.0,"min_trade_amount":10.0,
#  "maker_commission":0.0,"taker_commission":0.0005,…},…],"usIn":…,"usOut":…,"usDiff":…}
def _parse_trading_rules(body: bytes, now: int) -> Sequence[Event]:
    rows = decode_rows(_InstrumentTerms, bytes(_list_decoder.decode(body).result), "instruments")
    return [row if isinstance(row, InvalidValue) else _to_trading_rules(row, now) for row in rows]


def _to_trading_rules(row: _InstrumentTerms, now: int) -> TradingRules:
    contract = row.instrument_name.partition("-")[2]  # none of a spot instrument: BTC_USDC
    return TradingRules(
        exchange=NAME,
        instrument=Instrument(row.base_currency, row.quote_currency, contract),
        symbol=row.instrument_name,
        trading=row.state == "open",
        tick_size=row.tick_size,
        step_size=row.contract_size,
        min_size=row.min_trade_amount,
        maker_fee=row.maker_commission,
        taker_fee=row.taker_commission,
        time=now,
    )


def retry_delay(response: RestResponse, now: int) -> float:
    """A refused upgrade has 429 when there are too many connections."""
    return retry_after_seconds(response, now)


def error_text(body: bytes) -> str:
    """`{"jsonrpc":"2.0","id":1,"error":{"code":10028,"message":"too_many_requests"}}`."""
    try:
        error = _message_decoder.decode(body).error
    except ValueError:
        return ""
    return f"{error.message} ({error.code})" if error else ""


EXCHANGE = Exchange(
    name=NAME,
    rest_urls=("https://www.deribit.com",),
    ping_path="/api/v2/public/test",
    error_text=error_text,
    retry_delay=retry_delay,
    route=route,
    instruments=contracts,
    ws_urls=("wss://www.deribit.com",),
    stream=stream,
    max_connection_seconds=6 * 3600,  # each connection subscribes again to what was not granted
    connect_limit=RateLimit(30, 60),
    send_limit=RateLimit(3, 1),
    klines=klines,
    kline_budget=300,  # calls; it would accept several a second
    trading_rules=tuple(
        RestCall(f"/api/v2/public/get_instruments?currency=any&kind={kind}&expired=false", _parse_trading_rules)
        for kind in ("spot", "future")
    ),
    index_price=index_price,
    has_simulator=True,
)
