"""CoinGecko, the reference: prices of all coins in all currencies by one call, or its WebSocket with a paid plan.

https://docs.coingecko.com/reference/simple-price, https://docs.coingecko.com/reference/coins-id-ohlc,
https://docs.coingecko.com/websocket/cgsimpleprice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from urllib.parse import urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.bounds import is_price
from services.core.conversion import FIAT
from services.core.exchange import (
    MAX_RETRY_AFTER_SECONDS,
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
from services.settings import Settings

NAME = "coingecko"
# Symbols are not unique there; ids are.
COIN_IDS = {
    "BTC": "bitcoin",
    "ETH": "ethereum",
    "USDT": "tether",
    "USDC": "usd-coin",
    "BNB": "binancecoin",
    "SOL": "solana",
    "XRP": "ripple",
    "ADA": "cardano",
    "DOGE": "dogecoin",
    "TRX": "tron",
    "TON": "the-open-network",
    "LTC": "litecoin",
    "BCH": "bitcoin-cash",
    "DOT": "polkadot",
    "LINK": "chainlink",
    "AVAX": "avalanche-2",
    "XLM": "stellar",
    "DAI": "dai",
}
PUBLIC_URL, PRO_URL, WS_URL = "https://api.coingecko.com", "https://pro-api.coingecko.com", "wss://stream.coingecko.com"
RESPONSE_CACHE_SECONDS = 60.0  # it serves from a cache: faster calls get the same response and cost the same
# Seconds between calls. Keyless: a shared limit that moves; demo: 10,000 calls a month; smallest paid plan: 100,000.
# The demo plan leaves a tenth for the candles.
POLL_SECONDS_BY_PLAN = {"keyless": RESPONSE_CACHE_SECONDS, "demo": 300.0, "pro": 30.0}
OHLC_DAYS = {"30m": 1, "4h": 30}  # days in a response, from which the timeframe of its candles follows
OHLC_CURRENCY = "USD"
KEY_HEADERS = {"demo": "x-cg-demo-api-key", "pro": "x-cg-pro-api-key"}
PRICE_CHANNEL = '{"channel":"CGSimplePrice"}'


class _PushFrame(Struct):
    """A frame of the WebSocket; data may come bare or inside `message`."""

    type: str = ""
    code: int | None = None
    c: str = ""
    i: str | None = None
    vs: str | None = "usd"
    p: Decimal | None = None
    t: Decimal | None = None
    message: Raw = Raw(b"null")


class _OhlcRow(Struct, array_like=True):
    end: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


_CoinPrices = dict[str, Decimal | None]
_coins_decoder = msgspec.json.Decoder(dict[str, Raw])
_push_decoder = msgspec.json.Decoder(_PushFrame)


def instruments_by_id(ids: Mapping[str, str], instruments: Instruments) -> dict[tuple[str, str], Instrument]:
    """Return (id, currency) → instrument, of those whose id is known."""
    return {(ids[i.base], i.quote.lower()): i for i in instruments if i.base in ids}


def route(base: str, quote: str) -> OwnRoute | None:
    """A coin has a price in every currency; the way to another coin is by dollars."""
    if base in FIAT:
        return None
    if quote in FIAT:
        return OwnRoute((OwnLeg(Instrument(base, quote)),), quote)
    return OwnRoute((OwnLeg(Instrument(base, "USD")), OwnLeg(Instrument(quote, "USD"), inverted=True)), quote)


def poll(
    ids: Mapping[str, str], instruments: Instruments, expected_ids: Mapping[Instrument, int]
) -> tuple[RestCall, ...]:
    """Request everything in one call. Without `precision=full` large prices are rounded to integers."""
    by_id = instruments_by_id(ids, instruments)
    query = {
        "ids": ",".join(sorted({coin for coin, _ in by_id})),
        "vs_currencies": ",".join(sorted({currency for _, currency in by_id})),
        "include_last_updated_at": "true",
        "precision": "full",
    }
    return (RestCall(f"/api/v3/simple/price?{urlencode(query, safe=',')}", partial(parse_prices, by_id, instruments)),)


# https://docs.coingecko.com/reference/simple-price:
# {"bitcoin":{"usd":76975,"usd_market_cap":1542226908349.8406,"usd_24h_vol":29096603418.89408,
#  "usd_24h_change":-1.4093297098441402,"last_updated_at":1779092258}}
def parse_prices(
    by_id: Mapping[tuple[str, str], Instrument], instruments: Instruments, body: bytes, now: int
) -> Sequence[Event]:
    """Parse a response. It omits unknown coins without an error, and has null for a coin without a price."""
    coins = {coin: decode_row(_CoinPrices, raw, coin) for coin, raw in _coins_decoder.decode(body).items()}
    invalid = [coin for coin in coins.values() if isinstance(coin, InvalidValue)]
    quotes = {i: _to_quote(i, coins.get(coin), currency, now) for (coin, currency), i in by_id.items()}
    statuses = [
        InstrumentStatus(i, True) if quotes.get(i) else InstrumentStatus(i, False, "no price is given for it")
        for i in instruments
    ]
    return [*statuses, *(quote for quote in quotes.values() if quote), *invalid]


def _to_quote(
    instrument: Instrument, coin: _CoinPrices | InvalidValue | None, currency: str, now: int
) -> SequencedQuote | None:
    if not isinstance(coin, dict):
        return None
    price, updated = nonzero(coin.get(currency)), coin.get("last_updated_at")
    return SequencedQuote(Quote(NAME, instrument, now, _to_ms(updated), price=price)) if price else None


def _to_ms(seconds: Decimal | None) -> int | None:
    """A number that is too long to be written out becomes 1970, which is out of range as well."""
    if not seconds:
        return None
    return int(seconds * 1000) if is_price(seconds) else 0


def klines(ids: Mapping[str, str], instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall | None:
    """Request the last day or month of candles, whatever the range: without a paid plan it has no others."""
    if instrument.base not in ids or instrument.quote != OHLC_CURRENCY or timeframe not in OHLC_DAYS:
        return None
    query = {"vs_currency": instrument.quote.lower(), "days": OHLC_DAYS[timeframe], "precision": "full"}
    series = Series(NAME, instrument, timeframe)
    return RestCall(f"/api/v3/coins/{ids[instrument.base]}/ohlc?{urlencode(query)}", partial(_parse_ohlc, series), True)


# https://docs.coingecko.com/reference/coins-id-ohlc:
# [[1799998200000,61942,62211,61721,61845],[1800000000000,61845,62000,61845,61999.5],…]
def _parse_ohlc(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """Parse candles, which are stamped with their END. They have no volume, and the last may be forming."""
    timeframe, none = TIMEFRAMES[series.timeframe], Decimal(0)
    rows = decode_rows(_OhlcRow, body, f"{series.instrument} {series.timeframe}")
    return [
        r
        if isinstance(r, InvalidValue)
        else Kline(series, Bar(r.end - timeframe.length, r.open, r.high, r.low, r.close, none, none, 0))
        for r in rows
        if isinstance(r, InvalidValue) or timeframe.open_time(r.end) == r.end <= now
    ]


def stream(ids: Mapping[str, str], instruments: Instruments) -> StreamSpec:
    """The WebSocket of the paid plans: first a subscription to the channel, then the coins."""
    by_id = instruments_by_id(ids, instruments)
    tokens = {
        "coin_id": sorted({coin for coin, _ in by_id}),
        "vs_currencies": sorted({currency for _, currency in by_id}),
        "action": "set_tokens",
    }
    subscribe = _command("subscribe")
    return StreamSpec("/v1", partial(parse_push, by_id, _command("message", _to_json(tokens))), (subscribe,))


# https://docs.coingecko.com/websocket/cgsimpleprice:
# {"c":"C1","i":"ethereum","vs":"usd","m":312938652962.8005,"p":2591.080889351465,"pp":1.3763793110454519,
#  "t":1747808150.269067,"v":20460612214.801384}
def parse_push(
    by_id: Mapping[tuple[str, str], Instrument], tokens: str, frame: str | bytes, now: int
) -> Sequence[Event]:
    """Parse a frame. Any field of a price may be null."""
    push = _push_decoder.decode(frame)
    if bytes(push.message).startswith(b"{"):
        push = _push_decoder.decode(push.message)
    if push.type == "confirm_subscription":
        return [SendFrame(tokens)]
    if push.type == "reject_subscription" or push.code not in (None, 2000):
        return [ExchangeRefusal(f"CoinGecko refuses the subscription ({push.code})", 60)]
    instrument, price = by_id.get((push.i or "", push.vs or "usd")), nonzero(push.p)
    if push.c != "C1" or instrument is None or price is None:
        return []
    time = _to_ms(push.t)
    return [SequencedQuote(Quote(NAME, instrument, now, time, price=price), time or now)]


def _command(name: str, data: str | None = None) -> str:
    return _to_json({"command": name, "identifier": PRICE_CHANNEL, **({"data": data} if data else {})})


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def retry_delay(response: RestResponse, now: int) -> float:
    """By `Retry-After` or `x-ratelimit-reset` (2026-03-09 03:28:00 +0000); a minute for a 429 without either."""
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.status == 429 and "retry-after" not in response.headers and reset:
        try:
            until = datetime.strptime(reset, "%Y-%m-%d %H:%M:%S %z").timestamp() - now / 1000
            return min(max(1.0, until), MAX_RETRY_AFTER_SECONDS)
        except ValueError:
            return RESPONSE_CACHE_SECONDS
    return retry_after_seconds(response, now)


def error_text(body: bytes) -> str:
    """Its errors have three shapes; a firewall sends HTML."""
    try:
        error = msgspec.json.decode(body)
    except ValueError:
        return ""
    while isinstance(error, dict):
        if "error_message" in error:
            return f"{error['error_message']} ({error.get('error_code')})"
        error = error.get("error", error.get("status"))
    return error if isinstance(error, str) else ""


def from_settings(settings: Settings) -> Exchange:
    """Return the exchange with the plan's host, key and pace: host and key must match."""
    plan, key = settings.coingecko_plan, settings.coingecko_key.get_secret_value()
    ids = {**COIN_IDS, **settings.coingecko_ids}
    return Exchange(
        name=NAME,
        rest_urls=(PRO_URL if plan == "pro" else PUBLIC_URL,),
        ping_path="/api/v3/ping",
        error_text=error_text,
        retry_delay=retry_delay,
        route=route,
        ws_urls=(WS_URL,) if plan == "pro" else (),
        stream=partial(stream, ids),
        poll=partial(poll, ids),
        poll_seconds=settings.coingecko_poll_seconds or POLL_SECONDS_BY_PLAN[plan],
        credentials=lambda: {KEY_HEADERS[plan]: key} if key else {},
        idle_timeout=60,  # a coin's price is sent every ten seconds at best
        connect_limit=RateLimit(10, 60),
        value_ttl=RESPONSE_CACHE_SECONDS,
        klines=partial(klines, ids),
        kline_days=OHLC_DAYS,
        kline_budget=4,  # calls
        kline_delay_seconds=11 * 3600,  # calls are expensive, and a response goes back further than that
        is_reference=True,
        asset_ids=ids,
        settings_prefix="KURS_COINGECKO_",
        has_simulator=True,
    )


EXCHANGE = from_settings(Settings.model_construct())
