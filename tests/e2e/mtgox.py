"""An exchange of two endpoints: the file that a test, or an operator, adds to services/exchanges/.

https://mtgox.example/docs: prices as texts, times in ms, candles stamped with their start.
"""

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial

import msgspec
from msgspec import Struct

from services.core.exchange import (
    Event,
    Exchange,
    Instruments,
    InstrumentStatus,
    InvalidValue,
    OwnLeg,
    OwnRoute,
    RestCall,
    RestResponse,
    SequencedQuote,
    decode_rows,
    nonzero,
    retry_after_seconds,
)
from services.core.model import Bar, Instrument, Kline, Quote, Series

NAME = "mtgox"


class _Price(Struct):
    bid: Decimal
    ask: Decimal
    time: int


class _CandleRow(Struct, array_like=True):
    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class _Error(Struct):
    error: str


_prices_decoder = msgspec.json.Decoder(dict[str, _Price])
_error_decoder = msgspec.json.Decoder(_Error)


def route(base: str, quote: str) -> OwnRoute | None:
    """Return the leg in dollars: the exchange has no other quote currency."""
    return OwnRoute((OwnLeg(Instrument(base, "USD")),), "USD") if base != "USD" else None


def dollar_instruments(symbols: Instruments) -> Sequence[Instrument]:
    """Return the symbols in dollars."""
    return [symbol for symbol in symbols if symbol.quote == "USD" and not symbol.contract]


def poll(instruments: Instruments, expected_ids: Mapping[Instrument, int]) -> tuple[RestCall, ...]:
    """Request all prices."""
    return (RestCall("/prices", partial(parse_prices, instruments)),)


# {"BTC-USD":{"bid":"49999.5","ask":"50000.5","time":1733464456074}}
def parse_prices(instruments: Instruments, body: bytes, now: int) -> Sequence[Event]:
    """Parse all prices. An instrument that the exchange does not trade is missing."""
    prices, events = _prices_decoder.decode(body), list[Event]()
    for instrument in instruments:
        price = prices.get(str(instrument))
        events.append(InstrumentStatus(instrument, price is not None, "" if price else "not listed"))
        if price and (bid := nonzero(price.bid)) and (ask := nonzero(price.ask)):
            events.append(SequencedQuote(Quote(NAME, instrument, now, price.time, bid, ask), price.time))
    return events


def klines(instrument: Instrument, timeframe: str, since: int, until: int) -> RestCall:
    """Request klines. The exchange has all timeframes under the names of Kurs."""
    series = Series(NAME, instrument, timeframe)
    path = f"/candles?symbol={instrument}&timeframe={timeframe}&since={since}&until={until}"
    return RestCall(path, partial(parse_candles, series), uses_exchange_time=True)


# [[1634943780000,"50000","50001","49999","50000","1.5"],…]
def parse_candles(series: Series, body: bytes, now: int) -> Sequence[Event]:
    """Parse closed candles."""
    return [
        row
        if isinstance(row, InvalidValue)
        else Kline(
            series,
            Bar(row.open_time, row.open, row.high, row.low, row.close, row.volume, row.volume * row.close, 0),
        )
        for row in decode_rows(_CandleRow, body, f"{series.instrument} {series.timeframe}")
    ]


def error_text(body: bytes) -> str:
    """Return the text of `{"error":"no such symbol"}`, "" for the HTML of a proxy in front."""
    try:
        return _error_decoder.decode(body).error
    except ValueError:
        return ""


def retry_delay(response: RestResponse, now: int) -> float:
    """Return the seconds of `Retry-After`."""
    return retry_after_seconds(response, now)


EXCHANGE = Exchange(
    name=NAME,
    rest_urls=(os.environ.get("MTGOX_URL", "https://mtgox.example"),),
    ping_path="/prices",
    error_text=error_text,
    retry_delay=retry_delay,
    route=route,
    instruments=dollar_instruments,
    poll=poll,
    poll_seconds=0.5,
    klines=klines,
    kline_budget=6_000,
)
