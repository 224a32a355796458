"""Candles: built from trades, rolled up, and corrected by the exchange's own klines."""

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import reduce

from msgspec.structs import replace

from services.core.decimals import format_decimal
from services.core.model import Bar, Candle, CandleSource, Kline, Series, Trade
from services.core.timeframes import MINUTE_MS, Timeframe

SUM_CONTEXT = Context(prec=60)  # sums of products have all of their digits
SOURCE_RANK = {CandleSource.TRADES: 0, CandleSource.ROLLUP: 0, CandleSource.IMPORT: 1, CandleSource.EXCHANGE: 2}


def add_trade(bar: Bar | None, trade: Trade) -> Bar:
    """Return the minute's bar with one more trade, which is later than those in it."""
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
    """Return a bar without trades: flat at the last close."""
    return Bar(open_time, close, close, close, close, Decimal(0), Decimal(0), 0)


def merge_bars(open_time: int, bars: Sequence[Bar]) -> Bar:
    """Return one bar over consecutive shorter ones. Those without trades count only when all have none."""
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
    """Return the candle over its children, or None while one is missing between its open time and the last of them."""
    expected = list(child.open_times(open_time, timeframe.close_time(open_time) - 1))
    present = [candle.bar.open_time for candle in children]
    if not present or present != expected[: len(present)] or not all(candle.closed for candle in children[:-1]):
        return None
    closed = len(present) == len(expected) and children[-1].closed
    return Candle(series, merge_bars(open_time, [candle.bar for candle in children]), closed, CandleSource.ROLLUP)


def resolve(stored: Candle | None, incoming: Candle) -> Candle | None:
    """Return what to save when a candle comes while another is stored, or None when nothing changes.

    A closed candle is changed only by a source of at least its rank, and each change of its values is a revision. The
    same values from a source of higher rank change the source alone.
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
    """Return the exchange's closed candle as one to save."""
    return Candle(kline.series, kline.bar, True, kline.source)


def to_json(candle: Candle) -> str:
    """Return a candle as JSON. It is written by hand, because an encoder would make floats of the decimals."""
    bar = candle.bar
    return (
        f'{{"timestamp":{bar.open_time},"open":{format_decimal(bar.open)},"high":{format_decimal(bar.high)},'
        f'"low":{format_decimal(bar.low)},"close":{format_decimal(bar.close)},"volume":{format_decimal(bar.volume)},'
        f'"closed":{"true" if candle.closed else "false"},'
        f'"kind":"{candle.kind}","source":"{candle.source.value}","revision":{candle.revision}}}'
    )
