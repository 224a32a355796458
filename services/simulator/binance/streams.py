"""Binance's streams: the frames of each between two times."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from services.simulator.binance.payloads import (
    MINI_LETTERS,
    TICKER_LETTERS,
    WINDOW_LETTERS,
    agg_trade,
    average_price,
    book_levels,
    book_ticker,
    day_ticker,
    fills,
    format_fixed,
    kline,
    levels,
    span_ticker,
)
from services.simulator.market import order_book
from services.simulator.market.bar_columns import TapeTrade
from services.simulator.market.listings import BINANCE, DAY, MINUTE, SECOND, SimulatedListing
from services.simulator.market.simulated_market import SimulatedMarket
from services.simulator.market.tape import Tape
from services.simulator.market.tape_candles import LENGTHS_MS, candles, closing, opening, summary
from services.simulator.market.tape_quotes import quote, quotes
from services.simulator.simulated_socket import OutgoingFrame

FrameSource = Callable[[Tape, int, int], Iterable[OutgoingFrame]]


class MarketStream(NamedTuple):
    """A stream that a client subscribed to."""

    name: str
    listing: SimulatedListing | None  # None: an unknown symbol, which is accepted and never sends
    source: FrameSource

    def frames(self, market: SimulatedMarket, since: int, until: int) -> Iterable[OutgoingFrame]:
        """Return the frames of (since, until]."""
        return self.source(market.tape(self.listing), since, until) if self.listing else ()


def parse(name: str) -> MarketStream | None:
    """Return a stream by its name; None if there is no such stream."""
    symbol, _, kind = name.partition("@")
    source = _source(kind)
    if not symbol or source is None:
        return None
    listing = BINANCE.get(symbol.upper()) if symbol.isascii() and symbol == symbol.lower() else None
    return MarketStream(name, listing, source)


def _source(kind: str) -> FrameSource | None:
    interval = kind.removeprefix("kline_")
    if interval != kind:
        return partial(_klines, interval) if interval in LENGTHS_MS else None
    return FRAME_SOURCES.get(kind)


def _agg_trades(tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    for trade in tape.trades(since + 1, until + 1):
        body = {"e": "aggTrade", "E": trade.time, "s": tape.listing.symbol, **agg_trade(tape.listing, trade)}
        yield OutgoingFrame(body, tape.listing.instrument, "trade", str(trade.id), body["p"])


def _trades(tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    listing = tape.listing
    for trade in tape.trades(since + 1, until + 1):
        price = format_fixed(listing.price(trade.price))
        for fill, lots in fills(trade):
            body = {"e": "trade", "E": trade.time, "s": listing.symbol, "t": fill, "p": price}
            body |= {"q": format_fixed(listing.amount(lots)), "T": trade.time, "m": trade.sold, "M": True}
            yield OutgoingFrame(body, listing.instrument, "fill", str(fill), price)


def _book_tickers(tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    for change in quotes(tape, since, until):
        body = book_ticker(tape.listing, change)
        yield OutgoingFrame(body, tape.listing.instrument, "quote", str(change.time), f"{body['b']}/{body['a']}")


def _klines(interval: str, tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    """The open bar each two seconds (one for 1s) if it changed, and each bar once when it is final."""
    length = LENGTHS_MS[interval]
    opened = int(opening(length, np.array([since]))[0])
    while (end := closing(length, opened)) <= until:
        yield from _kline(interval, tape, opened, end, final=True)
        opened = end
    every = SECOND if interval == "1s" else 2 * SECOND
    at = until // every * every
    if at > since and at > opened and tape.trades(max(opened, at - every + 1), at + 1):
        yield from _kline(interval, tape, opened, at, final=False)


def _kline(interval: str, tape: Tape, opened: int, at: int, *, final: bool) -> Iterator[OutgoingFrame]:
    length, listing = LENGTHS_MS[interval], tape.listing
    bar = candles(tape, length, np.array([opened]), at - 1 if final else at)
    if len(bar.time):
        k = kline(listing, interval, bar, closing(length, opened) - 1, final)
        body = {"e": "kline", "E": at, "s": listing.symbol, "k": k}
        yield OutgoingFrame(
            body, listing.instrument, "candle", f"{interval} {opened}{' final' if final else ''}", k["c"]
        )


def _day_tickers(event: str, letters: dict[str, str], tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the rolling day for each second with a trade."""
    for at, last in _traded(tape, since, until):
        if standing := quote(tape, at):
            span = span_ticker(tape.listing, summary(tape, at - DAY + 1, at + 1), last, at - DAY, at)
            yield _ticker(event, letters, tape.listing, day_ticker(span, tape.listing, last, standing))


def _window_tickers(window: str, tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield a shorter window, which opens with a minute."""
    for at, last in _traded(tape, since, until):
        opens = (at - LENGTHS_MS[window]) // MINUTE * MINUTE
        span = span_ticker(tape.listing, summary(tape, opens, at + 1), last, opens, at)
        yield _ticker(f"{window}Ticker", WINDOW_LETTERS, tape.listing, span)


def _averages(tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the average price of five minutes."""
    for at, last in _traded(tape, since, until):
        mean = average_price(tape.listing, summary(tape, at - 5 * MINUTE, at + 1), last)
        body = {"e": "avgPrice", "E": at, "s": tape.listing.symbol, "i": "5m", "w": mean, "T": last.time}
        yield OutgoingFrame(body, tape.listing.instrument, "ticker", str(at), mean)


def _traded(tape: Tape, since: int, until: int) -> Iterator[tuple[int, TapeTrade]]:
    """Yield the second that ended, with its last trade, if it had one."""
    at = until // SECOND * SECOND
    last = tape.last_before(at + 1)
    if at > since and last and last.time > at - SECOND:
        yield at, last


def _ticker(event: str, letters: dict[str, str], listing: SimulatedListing, values: dict[str, Any]) -> OutgoingFrame:
    body = {"e": event, "E": values["closeTime"], **{letter: values[name] for letter, name in letters.items()}}
    return OutgoingFrame(body, listing.instrument, "ticker", str(body["E"]), body["c"])


def _depth(every: int, tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the changed levels of each interval that ended."""
    listing = tape.listing
    for at in order_book.change_times(tape, since, until, every):
        if change := order_book.update(tape, at - every, at):
            body = {"e": "depthUpdate", "E": at, "s": listing.symbol, "U": change.first, "u": change.last}
            body |= {"b": levels(listing, change.bids), "a": levels(listing, change.asks)}
            yield OutgoingFrame(body, listing.instrument, "depth", str(change.last))


def _partial_depth(limit: int, every: int, tape: Tape, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the best levels at the end of each interval with a change."""
    for at in order_book.change_times(tape, since, until, every):
        if book := order_book.order_book(tape, at):
            yield OutgoingFrame(book_levels(book, limit), tape.listing.instrument, "depth", str(book.top.time))


SPEEDS = {"": SECOND, "@1000ms": SECOND, "@100ms": SECOND // 10}
DEPTHS = (5, 10, 20)
FRAME_SOURCES: dict[str, FrameSource] = {
    "aggTrade": _agg_trades,
    "trade": _trades,
    "bookTicker": _book_tickers,
    "miniTicker": partial(_day_tickers, "24hrMiniTicker", MINI_LETTERS),
    "ticker": partial(_day_tickers, "24hrTicker", TICKER_LETTERS),
    **{f"ticker_{window}": partial(_window_tickers, window) for window in ("1h", "4h", "1d")},
    "avgPrice": _averages,
    **{f"depth{suffix}": partial(_depth, every) for suffix, every in SPEEDS.items()},
    **{
        f"depth{limit}{suffix}": partial(_partial_depth, limit, every)
        for limit in DEPTHS
        for suffix, every in SPEEDS.items()
    },
}
