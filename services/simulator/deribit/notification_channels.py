"""Deribit's channels: the notifications of each between two times."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from services.core.model import Instrument
from services.simulator.deribit import payloads
from services.simulator.deribit.instruments import INSTRUMENTS, settlement_currency
from services.simulator.market import order_book
from services.simulator.market.bar_columns import BarColumns
from services.simulator.market.listings import DERIBIT, INDICES, MINUTE, SECOND, SimulatedListing
from services.simulator.market.simulated_market import SimulatedMarket
from services.simulator.market.tape_candles import LENGTHS_MS, candles, opening
from services.simulator.market.tape_quotes import TapeQuote, quote, quotes
from services.simulator.simulated_socket import OutgoingFrame

INTERVALS_MS = {"raw": 1, "100ms": 100, "agg2": 1000}
RESOLUTIONS = {"1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "360": "6h"}
RESOLUTIONS |= {"720": "12h", "1D": "1d"}
RESOLUTIONS_MS = {name: LENGTHS_MS[interval] for name, interval in RESOLUTIONS.items()} | {
    "10": 10 * MINUTE,
    "180": 180 * MINUTE,
}
TOP_BOOK = re.compile(r"([^.]+)\.none\.(1|10|20)")  # only ungrouped levels
SILENT_CHANNELS = ("platform_state", "announcements", "instrument")

NotificationSource = Callable[["NotificationChannel", SimulatedMarket, int, int], Iterable[OutgoingFrame]]


class NotificationChannel(NamedTuple):
    """A channel that a client may subscribe to."""

    name: str
    source: NotificationSource
    listings: tuple[SimulatedListing, ...] = ()
    interval_ms: int = 1  # ms, whose changes are sent together; of charts the length of a bar
    initial: NotificationSource | None = None  # what a new subscriber gets at once
    raw: bool = False  # only after a login
    depth: int = 0  # levels on a side, of channels that send whole books

    @property
    def topic(self) -> str:
        """Second part of the channel's name."""
        return self.name.split(".")[1]


def parse(name: str) -> NotificationChannel | None:
    """Return a channel by its name; None if there is no such channel or instrument."""
    kind, _, rest = name.partition(".")
    topic, _, interval = rest.rpartition(".")
    match kind:
        case "deribit_price_index" if rest in INDICES:
            return NotificationChannel(name, _index, initial=_index_now)
        case "quote" if rest in DERIBIT:
            return NotificationChannel(name, _quotes, (DERIBIT[rest],), initial=_quote_now)
        case "ticker" | "book" | "trades" if interval in INTERVALS_MS:
            return _grouped_channel(name, kind, topic, interval)
        case "chart" if (symbol := topic.removeprefix("trades.")) in DERIBIT and interval in RESOLUTIONS_MS:
            return NotificationChannel(name, _bars, (DERIBIT[symbol],), RESOLUTIONS_MS[interval])
    return NotificationChannel(name, lambda *_: ()) if kind in SILENT_CHANNELS else None


def _grouped_channel(name: str, kind: str, topic: str, interval: str) -> NotificationChannel | None:
    """Return a channel that sends the changes of each `interval` together."""
    symbol, depth = topic, 0
    if kind == "book" and (match := TOP_BOOK.fullmatch(topic)):
        symbol, depth = match[1], int(match[2])
    listings = _listings_of(topic) if kind == "trades" else (DERIBIT[symbol],) if symbol in DERIBIT else ()
    source, state = {
        "ticker": (_tickers, _ticker_now),
        "book": (_top, _top_now) if depth else (_book, _book_now),
        "trades": (_trades, None),
    }[kind]
    channel = NotificationChannel(name, source, listings, INTERVALS_MS[interval], state, interval == "raw", depth)
    return channel if listings else None


def _listings_of(topic: str) -> tuple[SimulatedListing, ...]:
    """Return the listing `BTC-PERPETUAL`, or all of a kind and currency (`future.BTC`)."""
    if topic in DERIBIT:
        return (DERIBIT[topic],)
    kind, _, currency = topic.partition(".")
    return tuple(
        DERIBIT[symbol]
        for symbol, terms in INSTRUMENTS.items()
        if kind in ("any", terms["kind"]) and currency in ("any", settlement_currency(terms))
    )


def _index(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    for at in range(since // SECOND * SECOND + SECOND, until + 1, SECOND):
        yield from _index_now(channel, market, since, at)


def _index_now(channel: NotificationChannel, market: SimulatedMarket, since: int, at: int) -> Iterator[OutgoingFrame]:
    name = channel.topic
    price = payloads.index_price(market, name, at)
    body = {"timestamp": at, "price": price, "index_name": name}
    yield _frame(channel, body, Instrument(*name.upper().split("_")), ("index", str(at), str(price)))


def _quotes(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    for change in quotes(market.tape(channel.listings[0]), since, until):
        yield _quote(channel, change)


def _quote_now(
    channel: NotificationChannel, market: SimulatedMarket, since: int, until: int
) -> Iterator[OutgoingFrame]:
    if standing := quote(market.tape(channel.listings[0]), until):
        yield _quote(channel, standing)


def _quote(channel: NotificationChannel, standing: TapeQuote) -> OutgoingFrame:
    body = payloads.quote(channel.listings[0], standing)
    note = ("quote", str(standing.time), f"{body['best_bid_price']}/{body['best_ask_price']}")
    return _frame(channel, body, channel.listings[0].instrument, note)


def _tickers(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield a ticker for each interval that ended and had a change."""
    start, end = since // channel.interval_ms * channel.interval_ms, until // channel.interval_ms * channel.interval_ms
    changes = quotes(market.tape(channel.listings[0]), start, end)
    for at in sorted({-(-change.time // channel.interval_ms) * channel.interval_ms for change in changes}):
        yield from _ticker_now(channel, market, since, at)


def _ticker_now(channel: NotificationChannel, market: SimulatedMarket, since: int, at: int) -> Iterator[OutgoingFrame]:
    [listing] = channel.listings
    tape = market.tape(listing)
    if standing := quote(tape, at):
        body = payloads.ticker(market, tape, standing, at)
        note = ("quote", str(at), f"{body['best_bid_price']}/{body['best_ask_price']}")
        yield _frame(channel, body, listing.instrument, note)


def _book(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the changes of each interval that ended."""
    tape = market.tape(channel.listings[0])
    for at in order_book.change_times(tape, since, until, channel.interval_ms):
        change, before = (
            order_book.update(tape, at - channel.interval_ms, at),
            order_book.order_book(tape, at - channel.interval_ms),
        )
        if change and before:
            yield _book_frame(channel, payloads.book_change(before, change, at))


def _book_now(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the whole book at the end of the last interval, which the next change follows."""
    at = until // channel.interval_ms * channel.interval_ms
    if book := order_book.order_book(market.tape(channel.listings[0]), at):
        yield _book_frame(channel, payloads.book_snapshot(book, at))


def _top(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    for at in order_book.change_times(market.tape(channel.listings[0]), since, until, channel.interval_ms):
        yield from _top_now(channel, market, since, at)


def _top_now(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    if book := order_book.order_book(market.tape(channel.listings[0]), until):
        yield _book_frame(channel, payloads.top_levels(book, channel.depth, until))


def _book_frame(channel: NotificationChannel, body: dict[str, Any]) -> OutgoingFrame:
    return _frame(channel, body, channel.listings[0].instrument, ("depth", str(body["change_id"]), ""))


def _trades(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the trades of each interval that ended."""
    start, end = since // channel.interval_ms * channel.interval_ms, until // channel.interval_ms * channel.interval_ms
    for listing in channel.listings:
        tape = market.tape(listing)
        if found := tape.trades(start + 1, end + 1):
            body = payloads.trades(market, tape, found)
            ids, prices = (",".join(str(trade[key]) for trade in body) for key in ("trade_id", "price"))
            yield _frame(channel, body, listing.instrument, ("trade", ids, prices))


def _bars(channel: NotificationChannel, market: SimulatedMarket, since: int, until: int) -> Iterator[OutgoingFrame]:
    """Yield the bar of the last trade, for each second with a trade."""
    [listing] = channel.listings
    at, tape = until // SECOND * SECOND, market.tape(listing)
    last = tape.last_before(at + 1)
    if at > since and last and last.time > at - SECOND:
        opened = opening(channel.interval_ms, np.array([last.time]))
        body = bar(listing, candles(tape, channel.interval_ms, opened, at), 0)
        yield _frame(channel, body, listing.instrument, ("candle", str(body["tick"]), str(body["close"])))


def _frame(
    channel: NotificationChannel, body: Any, instrument: Instrument, note: tuple[str, str, str]
) -> OutgoingFrame:
    """Return a notification; `note` is its kind, id and price in the ledger."""
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel.name, "data": body}}
    return OutgoingFrame(message, instrument, *note)


def bar(listing: SimulatedListing, bars: BarColumns, row: int) -> dict[str, Any]:
    """Return one bar of a chart."""
    volume, cost = payloads.volume_and_cost(listing, bars, row)
    names = ("open", "high", "low", "close")
    prices = {key: listing.price(int(column[row])) for key, column in zip(names, bars[1:5], strict=True)}
    return {"tick": int(bars.time[row]), **prices, "volume": volume, "cost": cost}
