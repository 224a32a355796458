"""The range of every time, number and text in a message from outside.

Decoders check the shape. docs/input.md has the bounds as a table, and a test compares it with the constants.
"""

from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal
from functools import lru_cache
from typing import NamedTuple

from services.core.model import (
    Bar,
    Candle,
    CandleGap,
    ExchangeStatus,
    FeedGap,
    HighPriorityTask,
    IndicatorRequest,
    IndicatorValue,
    Instrument,
    Kline,
    Message,
    NormalPriorityTask,
    Quote,
    Rate,
    Series,
    StoreLookup,
    StoreQuery,
    StoreReply,
    TaskChange,
    Trade,
)
from services.core.timeframes import TIMEFRAMES, Timeframe

EARLIEST_MS = 1_230_768_000_000  # 2009, the year of the first bitcoin
LATEST_MS = 4_102_444_800_000  # 2100
MAX_EXCHANGE_LEAD_MS = 60_000  # of an exchange's time over what is known of its clock
MAX_PROCESS_LEAD_MS = 172_800_000  # between the clocks of two of our processes
MAX_TRADE_ID = 2**63 - 1  # that a store can save
MAX_FILLS = 10**9  # of one trade; a store can save the sum over as many trades
MAX_TRADES = 10**12  # of one candle; a store can save the sum over a month of minutes
MAX_PRICE_EXPONENT, MAX_PRICE_DIGITS = 24, 40  # digits before the point, or zeros behind it; all digits
MAX_AMOUNT_EXPONENT, MAX_AMOUNT_DIGITS = 48, 60  # of a candle's volumes, which are sums of products
MAX_GAP_CANDLES = 100_000  # 69 days of minutes
MAX_QUERY_CANDLES = 600_000  # a year of minutes
MAX_NAME_LENGTH = 32  # characters of an exchange's name, and of each part of an instrument's
MAX_TEXT_LENGTH = 300  # characters of a reason
MAX_LIST_LENGTH = 10_000  # of the instruments of an exchange, the candidates of a rate
SCAN_LOOKUPS = frozenset({StoreLookup.MISSING, StoreLookup.UNVERIFIED})  # these read all of their range

# A value with more digits or another exponent is rejected, because it is not rounded: each trap raises.
_ZERO, _INFINITE = Decimal(0), Decimal("Infinity")
_TRAPS = [Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal]
_price = Context(prec=MAX_PRICE_DIGITS, Emin=-MAX_PRICE_EXPONENT, Emax=MAX_PRICE_EXPONENT, traps=_TRAPS).plus
_amount = Context(prec=MAX_AMOUNT_DIGITS, Emin=-MAX_AMOUNT_EXPONENT, Emax=MAX_AMOUNT_EXPONENT, traps=_TRAPS).plus


class Violation(NamedTuple):
    """What is out of range. `reason` is one of a few words, for counting; `detail` names the value."""

    reason: str
    detail: str


def is_price(value: Decimal) -> bool:
    """Whether a number can be a price, or the size of a trade."""
    try:
        return _ZERO < _price(value) < _INFINITE  # which raises for NaN
    except ArithmeticError:
        return False


def is_amount(value: Decimal) -> bool:
    """Whether a number can be a volume."""
    try:
        return _amount(value).is_finite() and value >= 0
    except ArithmeticError:
        return False


def clean_text(text: str) -> str:
    """Return text from outside as one line of bounded length, without control characters."""
    if text.isprintable() and len(text) <= MAX_TEXT_LENGTH:
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:MAX_TEXT_LENGTH])


def find_violation(message: Message, now: int, max_lead: int = MAX_PROCESS_LEAD_MS) -> Violation | None:  # noqa: PLR0911  one line for each kind
    """Return what is out of range in a message. Its times may be `max_lead` ms ahead of `now`."""
    match message:
        case Trade():
            return _received_violation(message, now + max_lead) or trade_violation(message, now + max_lead)
        case Kline():
            return kline_violation(message, now + max_lead)
        case Quote():
            return _received_violation(message, now + max_lead) or quote_violation(message, now + max_lead)
        case Candle():
            return _series_violation(message.series) or _values_violation(message.bar)
        case IndicatorValue() | IndicatorRequest():
            return _series_violation(message.series) or _text_violation(message.indicator)
        case StoreQuery():
            return _series_violation(message.series) or _query_violation(message)
        case StoreReply():
            return _reply_violation(message)
        case CandleGap():
            return _candle_gap_violation(message, now + max_lead)
        case FeedGap():
            return _feed_gap_violation(message, now + max_lead)
        case ExchangeStatus():
            return _status_violation(message, now + max_lead)
        case Rate():
            return _rate_violation(message, now + max_lead)
        case HighPriorityTask() | NormalPriorityTask() | TaskChange():
            return _text_violation(message.id)
    return None


def trade_violation(trade: Trade, latest: int) -> Violation | None:
    """Check a trade that was made by `latest`, without our own time of receipt."""
    if not EARLIEST_MS <= trade.time <= latest:
        return Violation("time", f"the time {shorten(trade.time)}")
    if not 0 <= trade.trade_id <= MAX_TRADE_ID:
        return Violation("number", f"the trade number {shorten(trade.trade_id)}")
    if not 1 <= trade.fills <= MAX_FILLS:
        return Violation("count", f"{shorten(trade.fills)} fills")
    if not is_price(trade.price):
        return Violation("price", f"the price {shorten(trade.price)}")
    if not is_price(trade.size):
        return Violation("size", f"the size {shorten(trade.size)}")
    return names_violation(trade.exchange, trade.instrument)


def kline_violation(kline: Kline, latest: int) -> Violation | None:
    """Check a closed candle."""
    return _series_violation(kline.series) or bar_violation(kline.bar, TIMEFRAMES[kline.series.timeframe], latest)


def bar_violation(bar: Bar, timeframe: Timeframe, latest: int) -> Violation | None:
    """Check the values of a candle that was closed by `latest`."""
    return _open_time_violation(bar.open_time, timeframe, latest) or _values_violation(bar)


def _values_violation(bar: Bar) -> Violation | None:
    prices = bar.open, bar.high, bar.low, bar.close
    if not all(map(is_price, prices)):
        return Violation("price", f"the prices {', '.join(map(shorten, prices))}")
    if bar.low != min(prices) or bar.high != max(prices):
        return Violation("order", f"a bar whose prices leave its range: {', '.join(map(shorten, prices))}")
    if not (is_amount(bar.volume) and is_amount(bar.quote_volume)):
        return Violation("volume", f"the volumes {shorten(bar.volume)} and {shorten(bar.quote_volume)}")
    return None if 0 <= bar.trades <= MAX_TRADES else Violation("count", f"{shorten(bar.trades)} trades")


def quote_violation(quote: Quote, latest: int) -> Violation | None:
    """Check a quote that was made by `latest`, without our own time of receipt."""
    if quote.time is not None and not EARLIEST_MS <= quote.time <= latest:
        return Violation("time", f"the time {shorten(quote.time)}")
    for price in (quote.bid, quote.ask, quote.price):
        if price is not None and not is_price(price):
            return Violation("price", f"the price {shorten(price)}")
    return names_violation(quote.exchange, quote.instrument)


def shorten(value: object) -> str:
    """Return a value as short text. A huge number is not written out, because that is expensive."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = str(value)
    return clean_text(text if len(text) <= 60 else f"{text[:60]}…")


def _received_violation(message: Trade | Quote, latest: int) -> Violation | None:
    if EARLIEST_MS <= message.received <= latest:
        return None
    return Violation("time", f"received at {shorten(message.received)}")


def _open_time_violation(open_time: int, timeframe: Timeframe, latest: int) -> Violation | None:
    if open_time < EARLIEST_MS:
        return Violation("time", f"the open time {shorten(open_time)} is before 2009")
    if open_time > min(latest, LATEST_MS) or timeframe.close_time(open_time) > latest:
        return Violation("time", f"this candle is not over yet: it opens at {shorten(open_time)}")
    if timeframe.open_time(open_time) != open_time:
        return Violation("grid", f"no {timeframe.name} opens at {open_time}")
    return None


def _candle_gap_violation(gap: CandleGap, latest: int) -> Violation | None:
    if wrong := _series_violation(gap.series):
        return wrong
    timeframe = TIMEFRAMES[gap.series.timeframe]
    for open_time in (gap.since, gap.until):
        if wrong := _open_time_violation(open_time, timeframe, latest):
            return wrong
    if gap.since > gap.until or timeframe.count_between(gap.since, gap.until) > MAX_GAP_CANDLES:
        return Violation("range", f"a gap from {gap.since} to {gap.until}")
    times = gap.detected, gap.detected if gap.resolved is None else gap.resolved
    return (
        None
        if all(EARLIEST_MS <= time <= latest for time in times)
        else Violation("time", f"the times {shorten(times)}")
    )


def _query_violation(query: StoreQuery) -> Violation | None:
    if not 0 <= query.since <= LATEST_MS or not 0 <= query.until <= LATEST_MS:
        return Violation("time", f"the times {shorten(query.since)} and {shorten(query.until)}")
    if (
        query.lookup in SCAN_LOOKUPS
        and TIMEFRAMES[query.series.timeframe].count_between(query.since, query.until) > MAX_QUERY_CANDLES
    ):
        return Violation("range", f"the open times from {query.since} to {query.until}")
    return (
        _text_violation(query.id)
        if 0 < query.limit <= MAX_LIST_LENGTH
        else Violation("count", f"the limit {shorten(query.limit)}")
    )


def _reply_violation(reply: StoreReply) -> Violation | None:
    """Check stored candles, which may be of any time up to LATEST_MS."""
    if (longest := max(len(reply.candles), len(reply.ranges), len(reply.gaps))) > MAX_LIST_LENGTH:
        return Violation("count", f"{longest} members")
    if not all(0 <= since <= until <= LATEST_MS for since, until in reply.ranges):
        return Violation("range", "a range of a reply")
    for candle in reply.candles:
        if wrong := _series_violation(candle.series) or bar_violation(
            candle.bar, TIMEFRAMES[candle.series.timeframe], LATEST_MS
        ):
            return wrong
    wrongs = (_candle_gap_violation(gap, LATEST_MS) for gap in reply.gaps)
    return _text_violation(reply.id, reply.error) or next(filter(None, wrongs), None)


def _feed_gap_violation(gap: FeedGap, latest: int) -> Violation | None:
    if not EARLIEST_MS <= gap.since <= latest or not EARLIEST_MS <= gap.until <= latest:
        return Violation("time", f"the times {shorten(gap.since)} and {shorten(gap.until)}")
    if gap.since > gap.until:
        return Violation("range", f"a gap from {gap.since} to {gap.until}")
    return _text_violation(gap.reason) or names_violation(gap.exchange, gap.instrument)


def _status_violation(status: ExchangeStatus, latest: int) -> Violation | None:
    times = [status.time, status.since or EARLIEST_MS, status.received or EARLIEST_MS]  # 0: not known
    for source in status.feeds[:MAX_LIST_LENGTH]:
        times += [source.received or EARLIEST_MS, source.confirmed or EARLIEST_MS]
        if wrong := names_violation(status.exchange, source.instrument):
            return wrong
    if not all(EARLIEST_MS <= time <= latest for time in times):
        return Violation("time", "a time in the state of an exchange")
    if len(status.feeds) > MAX_LIST_LENGTH:
        return Violation("count", f"{len(status.feeds)} instruments")
    return _text_violation(status.reason, status.host, status.transport) or names_violation(status.exchange, None)


def _rate_violation(rate: Rate, latest: int) -> Violation | None:
    if not EARLIEST_MS <= rate.time <= latest:
        return Violation("time", f"the time {shorten(rate.time)}")
    if len(rate.candidates) > MAX_LIST_LENGTH:
        return Violation("count", f"{len(rate.candidates)} candidates")
    for candidate in rate.candidates:
        if candidate.value is not None and not is_amount(candidate.value):
            return Violation("price", f"the value {shorten(candidate.value)}")
        if wrong := _text_violation(candidate.reason, candidate.exchange):
            return wrong
    return names_violation("", rate.direction)


def _text_violation(*texts: str) -> Violation | None:
    for text in texts:
        if clean_text(text) != text:
            return Violation("text", f"the text {shorten(text)}")
    return None


def _series_violation(series: Series) -> Violation | None:
    if series.timeframe not in TIMEFRAMES:
        return Violation("timeframe", f"the timeframe {shorten(series.timeframe)}")
    return names_violation(series.exchange, series.instrument)


def names_violation(exchange: str, instrument: Instrument | None) -> Violation | None:
    """Check the names of an exchange and an instrument."""
    try:
        _check_names(exchange, instrument)
    except ValueError as error:
        return Violation("name", str(error))
    return None


@lru_cache(10_000)  # every message needs it; an error is not cached
def _check_names(exchange: str, instrument: Instrument | None) -> None:
    """Raises ValueError."""
    if len(exchange) > MAX_NAME_LENGTH or not (exchange.isascii() and exchange.isprintable()) or " " in exchange:
        raise ValueError(f"the exchange {shorten(exchange)}")
    if instrument is not None:
        required, optional = instrument[:2], (instrument.contract,) if instrument.contract else ()
        if not all(part.isalnum() and len(part) <= MAX_NAME_LENGTH for part in (*required, *optional)):
            raise ValueError(f"the instrument {shorten(tuple(instrument))}")
