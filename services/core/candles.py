"""Candles: built from trades, rolled up, and corrected by the exchange's own word."""

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import reduce

from msgspec.structs import replace

from services.core.decimals import format_decimal
from services.core.model import Bar, Candle, CandleSource, Kline, Series, Trade
from services.core.timeframes import MINUTE_MS, Timeframe

SUM_CONTEXT = Context(prec=60)  # sums of products keep every digit
SOURCE_RANK = {CandleSource.TRADES: 0, CandleSource.ROLLUP: 0, CandleSource.IMPORT: 1, CandleSource.EXCHANGE: 2}


def add_trade(bar: Bar | None, trade: Trade) -> Bar:
    """The minute's bar with one more trade, which is later than those in it."""
    price, size, quote = trade.price, trade.size, SUM_CONTEXT.multiply(trade.price, trade.size)
    if bar is None or not bar.trades:
        return Bar(trade.time // MINUTE_MS * MINUTE_MS, price, price, price, price, size, quote, trade.fills)
    return Bar(
        bar.open_time,
        bar.open,
        max(bar.high, price),
        min(bar.low, price),
        price,
        SUM_CONTEXT.add(bar.volume, size),
        SUM_CONTEXT.add(bar.quote_volume, quote),
        bar.trades + trade.fills,
    )


def empty_bar(open_time: int, close: Decimal) -> Bar:
    """A bar in which nothing was traded: flat at the last close."""
    return Bar(open_time, close, close, close, close, Decimal(0), Decimal(0), 0)


def merge_bars(open_time: int, bars: Sequence[Bar]) -> Bar:
    """One bar over consecutive shorter ones. Those in which nothing was traded count only when all are such."""
    live = [bar for bar in bars if bar.trades or bar.volume] or bars
    return Bar(
        open_time,
        live[0].open,
        max(bar.high for bar in live),
        min(bar.low for bar in live),
        live[-1].close,
        reduce(SUM_CONTEXT.add, (bar.volume for bar in live)),
        reduce(SUM_CONTEXT.add, (bar.quote_volume for bar in live)),
        sum(bar.trades for bar in live),
    )


def roll_up(
    series: Series, timeframe: Timeframe, open_time: int, children: Sequence[Candle], child: Timeframe
) -> Candle | None:
    """The candle over its children; None while one is missing between its opening and the last of them."""
    due = list(child.open_times(open_time, timeframe.close_time(open_time) - 1))
    have = [candle.bar.open_time for candle in children]
    if not have or have != due[: len(have)] or not all(candle.closed for candle in children[:-1]):
        return None
    closed = len(have) == len(due) and children[-1].closed
    return Candle(series, merge_bars(open_time, [candle.bar for candle in children]), closed, CandleSource.ROLLUP)


def resolve(stored: Candle | None, incoming: Candle) -> Candle | None:
    """What is kept when `new` comes while `old` is kept; None: nothing changes.

    A closed candle is changed only by a word at least as strong, and each change of its values is a revision. The same
    values from a stronger source change the source alone.
    """
    if stored is None:
        return incoming
    if stored.closed and (not incoming.closed or SOURCE_RANK[incoming.source] < SOURCE_RANK[stored.source]):
        return None
    if stored.bar == incoming.bar:
        stronger = SOURCE_RANK[incoming.source] > SOURCE_RANK[stored.source]
        if incoming.closed == stored.closed and not stronger:
            return None
        return replace(stored, closed=incoming.closed, source=incoming.source if stronger else stored.source)
    return replace(incoming, revision=stored.revision + stored.closed)


def from_kline(kline: Kline) -> Candle:
    """The exchange's closed candle as one to keep."""
    return Candle(kline.series, kline.bar, True, kline.source)


def to_json(candle: Candle) -> str:
    """A candle as JSON, written by hand: a number keeps a decimal's digits only if no float ever held it."""
    bar = candle.bar
    return (
        f'{{"timestamp":{bar.open_time},"open":{format_decimal(bar.open)},"high":{format_decimal(bar.high)},'
        f'"low":{format_decimal(bar.low)},"close":{format_decimal(bar.close)},"volume":{format_decimal(bar.volume)},'
        f'"closed":{"true" if candle.closed else "false"},'
        f'"kind":"{candle.kind}","source":"{candle.source.value}","revision":{candle.revision}}}'
    )
