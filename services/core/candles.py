"""Candles: built from trades, rolled up, and corrected by the exchange's own word."""

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import reduce

from msgspec.structs import replace

from services.core.decimals import number
from services.core.model import Bar, Candle, Kline, Origin, Series, Trade
from services.core.timeframes import MINUTE, Timeframe

EXACT = Context(prec=60)  # sums of products keep every digit
STRENGTH = {Origin.TICKS: 0, Origin.ROLLUP: 0, Origin.IMPORT: 1, Origin.EXCHANGE: 2}


def traded(bar: Bar | None, trade: Trade) -> Bar:
    """The minute's bar with one more trade, which is later than those in it."""
    price, size, quote = trade.price, trade.size, EXACT.multiply(trade.price, trade.size)
    if bar is None or not bar.trades:
        return Bar(trade.time // MINUTE * MINUTE, price, price, price, price, size, quote, trade.fills)
    return Bar(
        bar.timestamp,
        bar.open,
        max(bar.high, price),
        min(bar.low, price),
        price,
        EXACT.add(bar.volume, size),
        EXACT.add(bar.quote_volume, quote),
        bar.trades + trade.fills,
    )


def empty(timestamp: int, close: Decimal) -> Bar:
    """A bar in which nothing was traded: flat at the last close."""
    return Bar(timestamp, close, close, close, close, Decimal(0), Decimal(0), 0)


def merged(timestamp: int, bars: Sequence[Bar]) -> Bar:
    """One bar over consecutive shorter ones. Those in which nothing was traded count only when all are such."""
    live = [bar for bar in bars if bar.trades or bar.volume] or bars
    return Bar(
        timestamp,
        live[0].open,
        max(bar.high for bar in live),
        min(bar.low for bar in live),
        live[-1].close,
        reduce(EXACT.add, (bar.volume for bar in live)),
        reduce(EXACT.add, (bar.quote_volume for bar in live)),
        sum(bar.trades for bar in live),
    )


def rolled(
    series: Series, timeframe: Timeframe, opening: int, children: Sequence[Candle], child: Timeframe
) -> Candle | None:
    """The candle over its children; None while one is missing between its opening and the last of them."""
    due = list(child.openings(opening, timeframe.closing(opening) - 1))
    have = [candle.bar.timestamp for candle in children]
    if not have or have != due[: len(have)] or not all(candle.closed for candle in children[:-1]):
        return None
    closed = len(have) == len(due) and children[-1].closed
    return Candle(series, merged(opening, [candle.bar for candle in children]), closed, Origin.ROLLUP)


def settled(old: Candle | None, new: Candle) -> Candle | None:
    """What is kept when `new` comes while `old` is kept; None: nothing changes.

    A closed candle is changed only by a word at least as strong, and each change of its values is a revision. The same
    values from a stronger source change the source alone.
    """
    if old is None:
        return new
    if old.closed and (not new.closed or STRENGTH[new.source] < STRENGTH[old.source]):
        return None
    if old.bar == new.bar:
        stronger = STRENGTH[new.source] > STRENGTH[old.source]
        if new.closed == old.closed and not stronger:
            return None
        return replace(old, closed=new.closed, source=new.source if stronger else old.source)
    return replace(new, revision=old.revision + old.closed)


def of_kline(kline: Kline) -> Candle:
    """The exchange's closed candle as one to keep."""
    return Candle(kline.series, kline.bar, True, kline.source)


def row(candle: Candle) -> str:
    """A candle as JSON, written by hand: a number keeps a decimal's digits only if no float ever held it."""
    bar = candle.bar
    return (
        f'{{"timestamp":{bar.timestamp},"open":{number(bar.open)},"high":{number(bar.high)},"low":{number(bar.low)},'
        f'"close":{number(bar.close)},"volume":{number(bar.volume)},"closed":{"true" if candle.closed else "false"},'
        f'"kind":"{candle.kind}","source":"{candle.source.value}","revision":{candle.revision}}}'
    )
