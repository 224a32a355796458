"""Deribit's channels: which notifications each gives between two moments."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from services.core.model import Instrument
from services.simulator.deribit import payloads
from services.simulator.deribit.instruments import INSTRUMENTS, settled_in
from services.simulator.market import order_book
from services.simulator.market.bar_columns import Bars
from services.simulator.market.listings import DERIBIT, INDICES, MINUTE, SECOND, Listing
from services.simulator.market.simulated_market import Market
from services.simulator.market.tape_candles import LENGTHS, candles, opening
from services.simulator.market.tape_quotes import Quote, quote, quotes
from services.simulator.simulated_socket import Frame

SLOW_MS = {"raw": 1, "100ms": 100, "agg2": 1000}
RESOLUTIONS = {"1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "360": "6h"}
RESOLUTIONS |= {"720": "12h", "1D": "1d"}
LENGTH = {name: LENGTHS[interval] for name, interval in RESOLUTIONS.items()} | {"10": 10 * MINUTE, "180": 180 * MINUTE}
TOP = re.compile(r"([^.]+)\.none\.(1|10|20)")  # levels are told as they are, not in groups
SILENT = ("platform_state", "announcements", "instrument")

Source = Callable[["Channel", Market, int, int], Iterable[Frame]]


class Channel(NamedTuple):
    """One channel that a client may subscribe to."""

    name: str
    source: Source
    listings: tuple[Listing, ...] = ()
    every: int = 1  # ms: changes of so long a time come together; of charts: the bars' length
    state: Source | None = None  # what is pushed at once; None: nothing
    raw: bool = False  # only for who has logged in
    depth: int = 0  # levels on a side, of books that are told whole each time

    @property
    def topic(self) -> str:
        """The second part of its name."""
        return self.name.split(".")[1]


def parse(name: str) -> Channel | None:
    """A channel by its name; None if there is none, or it is about an unknown instrument."""
    kind, _, rest = name.partition(".")
    topic, _, interval = rest.rpartition(".")
    match kind:
        case "deribit_price_index" if rest in INDICES:
            return Channel(name, _index, state=_index_now)
        case "quote" if rest in DERIBIT:
            return Channel(name, _quotes, (DERIBIT[rest],), state=_quote_now)
        case "ticker" | "book" | "trades" if interval in SLOW_MS:
            return _timed(name, kind, topic, interval)
        case "chart" if (symbol := topic.removeprefix("trades.")) in DERIBIT and interval in LENGTH:
            return Channel(name, _bars, (DERIBIT[symbol],), LENGTH[interval])
    return Channel(name, lambda *_: ()) if kind in SILENT else None


def _timed(name: str, kind: str, topic: str, interval: str) -> Channel | None:
    """A channel whose changes of each `interval` come together."""
    symbol, depth = topic, 0
    if kind == "book" and (found := TOP.fullmatch(topic)):
        symbol, depth = found[1], int(found[2])
    listings = _traded(topic) if kind == "trades" else (DERIBIT[symbol],) if symbol in DERIBIT else ()
    source, state = {
        "ticker": (_tickers, _ticker_now),
        "book": (_top, _top_now) if depth else (_book, _book_now),
        "trades": (_trades, None),
    }[kind]
    channel = Channel(name, source, listings, SLOW_MS[interval], state, interval == "raw", depth)
    return channel if listings else None


def _traded(topic: str) -> tuple[Listing, ...]:
    """`BTC-PERPETUAL`, or all of a kind and currency: `future.BTC`."""
    if topic in DERIBIT:
        return (DERIBIT[topic],)
    kind, _, currency = topic.partition(".")
    return tuple(
        DERIBIT[symbol]
        for symbol, terms in INSTRUMENTS.items()
        if kind in ("any", terms["kind"]) and currency in ("any", settled_in(terms))
    )


def _index(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    for at in range(since // SECOND * SECOND + SECOND, until + 1, SECOND):
        yield from _index_now(channel, market, since, at)


def _index_now(channel: Channel, market: Market, since: int, at: int) -> Iterator[Frame]:
    name = channel.topic
    price = payloads.index_price(market, name, at)
    body = {"timestamp": at, "price": price, "index_name": name}
    yield _frame(channel, body, Instrument(*name.upper().split("_")), ("index", str(at), str(price)))


def _quotes(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    for change in quotes(market.tape(channel.listings[0]), since, until):
        yield _quote(channel, change)


def _quote_now(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    if standing := quote(market.tape(channel.listings[0]), until):
        yield _quote(channel, standing)


def _quote(channel: Channel, standing: Quote) -> Frame:
    body = payloads.quote(channel.listings[0], standing)
    note = ("quote", str(standing.time), f"{body['best_bid_price']}/{body['best_ask_price']}")
    return _frame(channel, body, channel.listings[0].instrument, note)


def _tickers(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    """One for each stretch of time that ended and had a change."""
    start, end = since // channel.every * channel.every, until // channel.every * channel.every
    changes = quotes(market.tape(channel.listings[0]), start, end)
    for at in sorted({-(-change.time // channel.every) * channel.every for change in changes}):
        yield from _ticker_now(channel, market, since, at)


def _ticker_now(channel: Channel, market: Market, since: int, at: int) -> Iterator[Frame]:
    [listing] = channel.listings
    tape = market.tape(listing)
    if standing := quote(tape, at):
        body = payloads.ticker(market, tape, standing, at)
        note = ("quote", str(at), f"{body['best_bid_price']}/{body['best_ask_price']}")
        yield _frame(channel, body, listing.instrument, note)


def _book(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    """What changed in each stretch of time that ended."""
    tape = market.tape(channel.listings[0])
    for at in order_book.ends(tape, since, until, channel.every):
        change, before = (
            order_book.update(tape, at - channel.every, at),
            order_book.order_book(tape, at - channel.every),
        )
        if change and before:
            yield _book_frame(channel, payloads.book_change(before, change, at))


def _book_now(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    """All of it as it stood when the last stretch ended: the next change follows on that."""
    at = until // channel.every * channel.every
    if book := order_book.order_book(market.tape(channel.listings[0]), at):
        yield _book_frame(channel, payloads.book_snapshot(book, at))


def _top(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    for at in order_book.ends(market.tape(channel.listings[0]), since, until, channel.every):
        yield from _top_now(channel, market, since, at)


def _top_now(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    if book := order_book.order_book(market.tape(channel.listings[0]), until):
        yield _book_frame(channel, payloads.top_levels(book, channel.depth, until))


def _book_frame(channel: Channel, body: dict[str, Any]) -> Frame:
    return _frame(channel, body, channel.listings[0].instrument, ("depth", str(body["change_id"]), ""))


def _trades(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    """All trades of each stretch of time that ended, together."""
    start, end = since // channel.every * channel.every, until // channel.every * channel.every
    for listing in channel.listings:
        tape = market.tape(listing)
        if found := tape.trades(start + 1, end + 1):
            body = payloads.trades(market, tape, found)
            ids, prices = (",".join(str(trade[key]) for trade in body) for key in ("trade_id", "price"))
            yield _frame(channel, body, listing.instrument, ("trade", ids, prices))


def _bars(channel: Channel, market: Market, since: int, until: int) -> Iterator[Frame]:
    """The bar that the last trade is in, each second in which there was one."""
    [listing] = channel.listings
    at, tape = until // SECOND * SECOND, market.tape(listing)
    last = tape.before(at + 1)
    if at > since and last and last.time > at - SECOND:
        opened = opening(channel.every, np.array([last.time]))
        body = bar(listing, candles(tape, channel.every, opened, at), 0)
        yield _frame(channel, body, listing.instrument, ("candle", str(body["tick"]), str(body["close"])))


def _frame(channel: Channel, body: Any, about: Instrument, note: tuple[str, str, str]) -> Frame:
    """A notification; `note` is its kind, id and price for the ledger."""
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel.name, "data": body}}
    return Frame(message, about, *note)


def bar(listing: Listing, bars: Bars, row: int) -> dict[str, Any]:
    """One bar of a chart."""
    volume, cost = payloads.volume_and_cost(listing, bars, row)
    names = ("open", "high", "low", "close")
    prices = {key: listing.price(int(column[row])) for key, column in zip(names, bars[1:5], strict=True)}
    return {"tick": int(bars.time[row]), **prices, "volume": volume, "cost": cost}
