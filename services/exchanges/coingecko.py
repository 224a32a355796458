"""CoinGecko: the reference. One call for all coins and currencies within the plan's budget, or its WebSocket."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from urllib.parse import urlencode

import msgspec
from msgspec import Raw, Struct

from services.core.bounds import is_price
from services.core.exchange import (
    LONGEST_WAIT,
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
    rows,
)
from services.core.model import Bar, Instrument, Kline, Series, Tick
from services.core.timeframes import TIMEFRAMES
from services.settings import Settings

NAME = "coingecko"
# Symbols are not unique there, ids are.
IDS = {
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
PUBLIC, PAID, PUSHED = "https://api.coingecko.com", "https://pro-api.coingecko.com", "wss://stream.coingecko.com"
CACHE = 60.0  # seconds; faster calls get the same answer and cost the same
# Seconds between calls. Keyless: a shared, moving limit; demo: 10,000 calls a month; the smallest paid plan: 100,000.
# The demo plan keeps a tenth for the candles.
PACE = {"keyless": CACHE, "demo": 300.0, "pro": 30.0}
DAYS = {"30m": 1, "4h": 30}  # of candles in an answer; which candles these are follows from it
CHARTED = "USD"
KEY_HEADER = {"demo": "x-cg-demo-api-key", "pro": "x-cg-pro-api-key"}
PRICES = '{"channel":"CGSimplePrice"}'


class _Push(Struct):
    """A frame of the WebSocket; data may come bare or inside `message`."""

    type: str = ""
    code: int | None = None
    c: str = ""
    i: str | None = None
    vs: str | None = "usd"
    p: Decimal | None = None
    t: Decimal | None = None
    message: Raw = Raw(b"null")


class _Row(Struct, array_like=True):
    end: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


_Coin = dict[str, Decimal | None]
_coins = msgspec.json.Decoder(dict[str, Raw])
_push = msgspec.json.Decoder(_Push)


def wanted(ids: Mapping[str, str], instruments: Instruments) -> dict[tuple[str, str], Instrument]:
    """(id, currency) → instrument, of those whose id is known."""
    return {(ids[i.base], i.quote.lower()): i for i in instruments if i.base in ids}


def poll(ids: Mapping[str, str], instruments: Instruments, due: Mapping[Instrument, int]) -> tuple[Ask, ...]:
    """Everything in one call. Without `precision=full` large prices come rounded to integers."""
    known = wanted(ids, instruments)
    query = {
        "ids": ",".join(sorted({coin for coin, _ in known})),
        "vs_currencies": ",".join(sorted({currency for _, currency in known})),
        "include_last_updated_at": "true",
        "precision": "full",
    }
    return (Ask(f"/api/v3/simple/price?{urlencode(query, safe=',')}", partial(read, known, instruments)),)


def read(
    known: Mapping[tuple[str, str], Instrument], instruments: Instruments, body: bytes, now: int
) -> Sequence[Event]:
    """One answer. What it does not know it leaves out without a word; what it has no price of is null."""
    coins = {coin: row(_Coin, raw, coin) for coin, raw in _coins.decode(body).items()}
    wrong = [coin for coin in coins.values() if isinstance(coin, Rejected)]
    heard = {i: _heard(i, coins.get(coin), currency, now) for (coin, currency), i in known.items()}
    present = [
        Presence(i, True) if heard.get(i) else Presence(i, False, "no price is given for it") for i in instruments
    ]
    return [*present, *(tick for tick in heard.values() if tick), *wrong]


def _heard(instrument: Instrument, coin: _Coin | Rejected | None, currency: str, now: int) -> Heard | None:
    if not isinstance(coin, dict):
        return None
    price, updated = given(coin.get(currency)), coin.get("last_updated_at")
    return Heard(Tick(NAME, instrument, now, _milliseconds(updated), price=price)) if price else None


def _milliseconds(seconds: Decimal | None) -> int | None:
    """What cannot be written out is 1970: out of range as well."""
    if not seconds:
        return None
    return int(seconds * 1000) if is_price(seconds) else 0


def history(ids: Mapping[str, str], instrument: Instrument, timeframe: str, since: int, until: int) -> Ask | None:
    """The last day or month of candles, whatever is asked for: there are no others for everyone."""
    if instrument.base not in ids or instrument.quote != CHARTED or timeframe not in DAYS:
        return None
    query = {"vs_currency": instrument.quote.lower(), "days": DAYS[timeframe], "precision": "full"}
    series = Series(NAME, instrument, timeframe)
    return Ask(f"/api/v3/coins/{ids[instrument.base]}/ohlc?{urlencode(query)}", partial(_read_bars, series), True)


def _read_bars(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """Candles are stamped with their END. They have no volume, and the last may be forming still."""
    timeframe, none = TIMEFRAMES[series.timeframe], Decimal(0)
    found = rows(_Row, body, f"{series.instrument} {series.timeframe}")
    return [
        r
        if isinstance(r, Rejected)
        else Kline(series, Bar(r.end - timeframe.length, r.open, r.high, r.low, r.close, none, none, 0))
        for r in found
        if isinstance(r, Rejected) or timeframe.opening(r.end) == r.end <= now
    ]


def stream(ids: Mapping[str, str], instruments: Instruments) -> Stream:
    """The paid plans' WebSocket: a subscription to the channel, then the coins."""
    known = wanted(ids, instruments)
    tokens = {
        "coin_id": sorted({coin for coin, _ in known}),
        "vs_currencies": sorted({currency for _, currency in known}),
        "action": "set_tokens",
    }
    subscribe = _command("subscribe")
    return Stream("/v1", partial(read_push, known, _command("message", _text(tokens))), (subscribe,))


def read_push(
    known: Mapping[tuple[str, str], Instrument], tokens: str, frame: str | bytes, now: int
) -> Sequence[Event]:
    """One frame. New kinds are ignored; any field of a price may be null."""
    push = _push.decode(frame)
    if bytes(push.message).startswith(b"{"):
        push = _push.decode(push.message)
    if push.type == "confirm_subscription":
        return [Send(tokens)]
    if push.type == "reject_subscription" or push.code not in (None, 2000):
        return [Refused(f"CoinGecko refuses the subscription ({push.code})", 60)]
    instrument, price = known.get((push.i or "", push.vs or "usd")), given(push.p)
    if push.c != "C1" or instrument is None or price is None:
        return []
    time = _milliseconds(push.t)
    return [Heard(Tick(NAME, instrument, now, time, price=price), time or now)]


def _command(name: str, data: str | None = None) -> str:
    return _text({"command": name, "identifier": PRICES, **({"data": data} if data else {})})


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def wait(answer: Answer, now: int) -> float:
    """`Retry-After`, or `x-ratelimit-reset` (2026-03-09 03:28:00 +0000), or a minute when we asked too often."""
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.status == 429 and "retry-after" not in answer.headers and reset:
        try:
            until = datetime.strptime(reset, "%Y-%m-%d %H:%M:%S %z").timestamp() - now / 1000
            return min(max(1.0, until), LONGEST_WAIT)
        except ValueError:
            return CACHE
    return retry_after(answer, now)


def complaint(body: bytes) -> str:
    """The three shapes of its errors; a firewall answers in HTML."""
    try:
        error = msgspec.json.decode(body)
    except ValueError:
        return ""
    while isinstance(error, dict):
        if "error_message" in error:
            return f"{error['error_message']} ({error.get('error_code')})"
        error = error.get("error", error.get("status"))
    return error if isinstance(error, str) else ""


def ids(settings: Settings) -> Mapping[str, str]:
    """The ids of all assets that are known."""
    return {**IDS, **settings.coingecko_ids}


def configured(settings: Settings) -> Exchange:
    """With the plan's host, key and pace: host and key must match."""
    plan, key = settings.coingecko_plan, settings.coingecko_key.get_secret_value()
    known = ids(settings)
    return Exchange(
        name=NAME,
        rests=(PAID if plan == "pro" else PUBLIC,),
        ping="/api/v3/ping",
        complaint=complaint,
        wait=wait,
        sockets=(PUSHED,) if plan == "pro" else (),
        stream=partial(stream, known),
        poll=partial(poll, known),
        poll_seconds=settings.coingecko_poll_seconds or PACE[plan],
        credentials=lambda: {KEY_HEADER[plan]: key} if key else {},
        quiet=60,  # a coin's price comes every ten seconds at best
        connects=Limit(10, 60),
        holds=CACHE,
        history=partial(history, known),
        history_days=DAYS,
        history_budget=4,  # calls
        history_seconds=11 * 3600,  # calls are dear, and an answer goes back further than that
    )


EXCHANGE = configured(Settings.model_construct())
