"""What a message may hold: the range of every time, number and text that comes from outside.

Shapes are the decoders' business. docs/input.md has the bounds as a table, and a test compares it with the constants.
"""

from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal
from functools import lru_cache
from typing import NamedTuple

from services.core.model import (
    Bar,
    Candle,
    Gap,
    Hole,
    Instrument,
    Kline,
    Lookup,
    Message,
    Rate,
    Reading,
    Series,
    State,
    StoreQuery,
    StoreReply,
    Tick,
    Trade,
    Wish,
)
from services.core.timeframes import TIMEFRAMES, Timeframe

EARLIEST = 1_230_768_000_000  # 2009: before there was a bitcoin nobody traded it
LATEST = 4_102_444_800_000  # 2100
AHEAD = 60_000  # ms that an exchange's time may be ahead of what is known of its clock
APART = 172_800_000  # ms that the clocks of two of our processes may be apart
INTEGER = 2**63 - 1  # what a store holds: the number of a trade
FILLS = 10**9  # of one trade; a store holds the sum of as many trades
TRADES = 10**12  # of one candle; a store holds the sum of a month's minutes
PRICE_SIZE, PRICE_DIGITS = 24, 40  # digits before the point, or zeros behind it; digits in all
AMOUNT_SIZE, AMOUNT_DIGITS = 48, 60  # of a candle's volumes, which are sums of products
OPENINGS = 100_000  # of one hole: 69 days of minutes
SPAN = 600_000  # openings that one query looks through: a year of minutes
NAME_LENGTH = 32  # characters of an exchange's name, and of each part of an instrument's
TEXT_LENGTH = 300  # characters of a reason
MEMBERS = 10_000  # of a list in a message: the instruments of an exchange, the offers of a rate
SCANS = frozenset({Lookup.MISSING, Lookup.UNVERIFIED})  # lookups that read all of their range

# As many digits come through, and no value outside the size. What is trapped is raised.
_ZERO, _INFINITE = Decimal(0), Decimal("Infinity")
_TRAPS = [Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal]
_price = Context(prec=PRICE_DIGITS, Emin=-PRICE_SIZE, Emax=PRICE_SIZE, traps=_TRAPS).plus
_amount = Context(prec=AMOUNT_DIGITS, Emin=-AMOUNT_SIZE, Emax=AMOUNT_SIZE, traps=_TRAPS).plus


class Fault(NamedTuple):
    """What is out of range. `reason` is one of a few words, to be counted by; `detail` is for a person to read."""

    reason: str
    detail: str


def is_price(value: Decimal) -> bool:
    """Whether it can be a price, or the size of a trade."""
    try:
        return _ZERO < _price(value) < _INFINITE  # which raises for what is no number
    except ArithmeticError:
        return False


def is_amount(value: Decimal) -> bool:
    """Whether it can be a volume."""
    try:
        return _amount(value).is_finite() and value >= 0
    except ArithmeticError:
        return False


def clean(text: str) -> str:
    """Text from outside as one line of bounded length, without control characters."""
    if text.isprintable() and len(text) <= TEXT_LENGTH:
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:TEXT_LENGTH])


def fault(message: Message, now: int, ahead: int = APART) -> Fault | None:  # noqa: PLR0911  one line for each kind
    """What is wrong with a message, if anything is. `ahead`: ms by which its times may be ahead of `now`."""
    match message:
        case Trade():
            return _received_fault(message, now + ahead) or trade_fault(message, now + ahead)
        case Kline():
            return kline_fault(message, now + ahead)
        case Tick():
            return _received_fault(message, now + ahead) or tick_fault(message, now + ahead)
        case Candle():
            return _series_fault(message.series) or _values_fault(message.bar)
        case Reading() | Wish():
            return _series_fault(message.series) or _text_fault(message.indicator)
        case StoreQuery():
            return _series_fault(message.series) or _query_fault(message)
        case StoreReply():
            return _reply_fault(message)
        case Hole():
            return _hole_fault(message, now + ahead)
        case Gap():
            return _gap_fault(message, now + ahead)
        case State():
            return _state_fault(message, now + ahead)
        case Rate():
            return _rate_fault(message, now + ahead)
    return None


def trade_fault(trade: Trade, latest: int) -> Fault | None:
    """What is wrong with a trade that was made by `latest`. When it was received is our own word."""
    if not EARLIEST <= trade.time <= latest:
        return Fault("time", f"the time {shown(trade.time)}")
    if not 0 <= trade.number <= INTEGER:
        return Fault("number", f"the trade number {shown(trade.number)}")
    if not 1 <= trade.fills <= FILLS:
        return Fault("count", f"{shown(trade.fills)} fills")
    if not is_price(trade.price):
        return Fault("price", f"the price {shown(trade.price)}")
    if not is_price(trade.size):
        return Fault("size", f"the size {shown(trade.size)}")
    return _names_fault(trade.exchange, trade.instrument)


def kline_fault(kline: Kline, latest: int) -> Fault | None:
    """What is wrong with a closed candle."""
    return _series_fault(kline.series) or bar_fault(kline.bar, TIMEFRAMES[kline.series.timeframe], latest)


def bar_fault(bar: Bar, timeframe: Timeframe, latest: int) -> Fault | None:
    """What is wrong with the values of a candle that was over by `latest`."""
    return _opening_fault(bar.timestamp, timeframe, latest) or _values_fault(bar)


def _values_fault(bar: Bar) -> Fault | None:
    prices = bar.open, bar.high, bar.low, bar.close
    if not all(map(is_price, prices)):
        return Fault("price", f"the prices {', '.join(map(shown, prices))}")
    if bar.low != min(prices) or bar.high != max(prices):
        return Fault("order", f"a bar whose prices leave its range: {', '.join(map(shown, prices))}")
    if not (is_amount(bar.volume) and is_amount(bar.quote_volume)):
        return Fault("volume", f"the volumes {shown(bar.volume)} and {shown(bar.quote_volume)}")
    return None if 0 <= bar.trades <= TRADES else Fault("count", f"{shown(bar.trades)} trades")


def tick_fault(tick: Tick, latest: int) -> Fault | None:
    """What is wrong with a quote that was given by `latest`. When it was received is our own word."""
    if tick.time is not None and not EARLIEST <= tick.time <= latest:
        return Fault("time", f"the time {shown(tick.time)}")
    for price in (tick.bid, tick.ask, tick.price):
        if price is not None and not is_price(price):
            return Fault("price", f"the price {shown(price)}")
    return _names_fault(tick.exchange, tick.instrument)


def shown(value: object) -> str:
    """A value for a person to read; one that is absurdly long is cut, and written out only as far as that is cheap."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = str(value)
    return clean(text if len(text) <= 60 else f"{text[:60]}…")


def _received_fault(message: Trade | Tick, latest: int) -> Fault | None:
    if EARLIEST <= message.received <= latest:
        return None
    return Fault("time", f"received at {shown(message.received)}")


def _opening_fault(opening: int, timeframe: Timeframe, latest: int) -> Fault | None:
    if opening < EARLIEST:
        return Fault("time", f"the opening {shown(opening)} is before 2009")
    if opening > min(latest, LATEST) or timeframe.closing(opening) > latest:
        return Fault("time", f"this candle is not over yet: it opens at {shown(opening)}")
    if timeframe.opening(opening) != opening:
        return Fault("grid", f"no {timeframe.name} opens at {opening}")
    return None


def _hole_fault(hole: Hole, latest: int) -> Fault | None:
    if wrong := _series_fault(hole.series):
        return wrong
    timeframe = TIMEFRAMES[hole.series.timeframe]
    for opening in (hole.since, hole.until):
        if wrong := _opening_fault(opening, timeframe, latest):
            return wrong
    if hole.since > hole.until or timeframe.expected(hole.since, hole.until) > OPENINGS:
        return Fault("range", f"a hole from {hole.since} to {hole.until}")
    times = hole.noticed, hole.noticed if hole.settled is None else hole.settled
    return None if all(EARLIEST <= time <= latest for time in times) else Fault("time", f"the times {shown(times)}")


def _query_fault(query: StoreQuery) -> Fault | None:
    if not 0 <= query.since <= LATEST or not 0 <= query.until <= LATEST:
        return Fault("time", f"the times {shown(query.since)} and {shown(query.until)}")
    if query.lookup in SCANS and TIMEFRAMES[query.series.timeframe].expected(query.since, query.until) > SPAN:
        return Fault("range", f"the openings from {query.since} to {query.until}")
    return _text_fault(query.id) if 0 < query.limit <= MEMBERS else Fault("count", f"the limit {shown(query.limit)}")


def _reply_fault(reply: StoreReply) -> Fault | None:
    """What is kept is no news: how new it may be is not looked at."""
    if (most := max(len(reply.candles), len(reply.ranges), len(reply.holes))) > MEMBERS:
        return Fault("count", f"{most} members")
    if not all(0 <= since <= until <= LATEST for since, until in reply.ranges):
        return Fault("range", "a range of a reply")
    for candle in reply.candles:
        if wrong := _series_fault(candle.series) or bar_fault(candle.bar, TIMEFRAMES[candle.series.timeframe], LATEST):
            return wrong
    found = (wrong for hole in reply.holes if (wrong := _hole_fault(hole, LATEST)))
    return _text_fault(reply.id, reply.error) or next(found, None)


def _gap_fault(gap: Gap, latest: int) -> Fault | None:
    if not EARLIEST <= gap.since <= latest or not EARLIEST <= gap.until <= latest:
        return Fault("time", f"the times {shown(gap.since)} and {shown(gap.until)}")
    if gap.since > gap.until:
        return Fault("range", f"a gap from {gap.since} to {gap.until}")
    return _text_fault(gap.reason) or _names_fault(gap.exchange, gap.instrument)


def _state_fault(state: State, latest: int) -> Fault | None:
    times = [state.time, state.since or EARLIEST, state.received or EARLIEST]  # 0: not known
    for source in state.sources[:MEMBERS]:
        times += [source.received or EARLIEST, source.confirmed or EARLIEST]
        if wrong := _names_fault(state.exchange, source.instrument):
            return wrong
    if not all(EARLIEST <= time <= latest for time in times):
        return Fault("time", "a time in the state of an exchange")
    if len(state.sources) > MEMBERS:
        return Fault("count", f"{len(state.sources)} instruments")
    return _text_fault(state.reason, state.host, state.transport) or _names_fault(state.exchange, None)


def _rate_fault(rate: Rate, latest: int) -> Fault | None:
    if not EARLIEST <= rate.time <= latest:
        return Fault("time", f"the time {shown(rate.time)}")
    if len(rate.offers) > MEMBERS:
        return Fault("count", f"{len(rate.offers)} offers")
    for offer in rate.offers:
        if offer.value is not None and not is_amount(offer.value):
            return Fault("price", f"the value {shown(offer.value)}")
        if wrong := _text_fault(offer.reason, offer.exchange):
            return wrong
    return _names_fault("", rate.direction)


def _text_fault(*texts: str) -> Fault | None:
    for text in texts:
        if clean(text) != text:
            return Fault("text", f"the text {shown(text)}")
    return None


def _series_fault(series: Series) -> Fault | None:
    if series.timeframe not in TIMEFRAMES:
        return Fault("timeframe", f"the timeframe {shown(series.timeframe)}")
    return _names_fault(series.exchange, series.instrument)


def _names_fault(exchange: str, instrument: Instrument | None) -> Fault | None:
    try:
        _check_names(exchange, instrument)
    except ValueError as error:
        return Fault("name", str(error))
    return None


@lru_cache(10_000)  # asked at every message; what is raised is not kept
def _check_names(exchange: str, instrument: Instrument | None) -> None:
    """Raises ValueError."""
    if len(exchange) > NAME_LENGTH or not (exchange.isascii() and exchange.isprintable()) or " " in exchange:
        raise ValueError(f"the exchange {shown(exchange)}")
    if instrument is not None:
        required, optional = instrument[:2], (instrument.contract,) if instrument.contract else ()
        if not all(part.isalnum() and len(part) <= NAME_LENGTH for part in (*required, *optional)):
            raise ValueError(f"the instrument {shown(tuple(instrument))}")
