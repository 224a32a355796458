"""Binance's payloads: decimals as text with eight decimals, times in ms."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import repeat
from typing import Any

import numpy as np

from services.simulator.fault_injection import PayloadFields
from services.simulator.market.bar_columns import BarColumns, TapeTrade
from services.simulator.market.listings import SimulatedListing
from services.simulator.market.order_book import BookLevel, OrderBook
from services.simulator.market.shapes import Ints
from services.simulator.market.tape_quotes import TapeQuote

DECIMALS = 8
PRICES = (
    "p b a c o h l w x price bidPrice askPrice lastPrice openPrice highPrice lowPrice weightedAvgPrice prevClosePrice"
)
PAYLOAD_FIELDS = PayloadFields(
    "binance",
    times=dict.fromkeys(("E", "T", "O", "C", "serverTime", "openTime", "closeTime", "time"), 1),
    prices=frozenset(PRICES.split()),
    states=frozenset({"e", "status"}),
    order_books=frozenset({"b", "a", "bids", "asks"}),
    unshifted=frozenset({"k"}),
)
TICKER_KEYS = "s p P w x c Q b B a A o h l v q O C F L n"
TICKER_NAMES = (
    "symbol priceChange priceChangePercent weightedAvgPrice prevClosePrice lastPrice lastQty bidPrice bidQty askPrice "
    "askQty openPrice highPrice lowPrice volume quoteVolume openTime closeTime firstId lastId count"
)
TICKER_LETTERS = dict(zip(TICKER_KEYS.split(), TICKER_NAMES.split(), strict=True))
MINI_LETTERS = {letter: TICKER_LETTERS[letter] for letter in "scohlvq"}
WINDOW_LETTERS = {letter: TICKER_LETTERS[letter] for letter in "spPohlcwvqOCFLn"}
MINI_NAMES = [TICKER_LETTERS[letter] for letter in "sohlcvqOCFLn"]  # of a ticker with type=MINI


def format_fixed(number: Decimal) -> str:
    """Return a decimal as text: `60000.01000000`."""
    return f"{number:.8f}"


def agg_trade(listing: SimulatedListing, trade: TapeTrade) -> dict[str, Any]:
    """Return an aggregate trade as in REST."""
    return {
        "a": trade.id,
        "p": format_fixed(listing.price(trade.price)),
        "q": format_fixed(listing.amount(trade.size)),
        "f": trade.first,
        "l": trade.last,
        "T": trade.time,
        "m": trade.sold,
        "M": True,
    }


def fills(trade: TapeTrade) -> Iterator[tuple[int, int]]:
    """Yield the fills that a trade consists of: id and lots."""
    number = trade.last - trade.first + 1
    share = trade.size // number
    for fill in range(trade.first, trade.last):
        yield fill, share
    yield trade.last, trade.size - share * (number - 1)


def book_ticker(listing: SimulatedListing, quote: TapeQuote) -> dict[str, Any]:
    """Return a quote as in the stream: without a time, with an ascending id."""
    return {
        "u": quote.time,
        "s": listing.symbol,
        "b": format_fixed(listing.price(quote.bid)),
        "B": format_fixed(listing.amount(quote.bid_size)),
        "a": format_fixed(listing.price(quote.ask)),
        "A": format_fixed(listing.amount(quote.ask_size)),
    }


def book_levels(book: OrderBook, limit: int) -> dict[str, Any]:
    """Return the best levels of an order book."""
    sides = {"bids": book.bids(limit), "asks": book.asks(limit)}
    return {"lastUpdateId": book.top.time} | {name: levels(book.tape.listing, side) for name, side in sides.items()}


def levels(listing: SimulatedListing, side: Iterable[BookLevel]) -> list[list[str]]:
    """Return price and size of each level."""
    return [[format_fixed(listing.price(each.price)), format_fixed(listing.amount(each.size))] for each in side]


def average_price(listing: SimulatedListing, minutes: BarColumns, last: TapeTrade) -> str:
    """Return the volume-weighted average price; the last price if nothing was traded."""
    if not len(minutes.time):
        return format_fixed(listing.price(last.price))
    return format_fixed(listing.turnover(int(minutes.quote[0])) / listing.amount(int(minutes.volume[0])))


def kline(listing: SimulatedListing, interval: str, bar: BarColumns, last_ms: int, final: bool) -> dict[str, Any]:
    """Return the only bar of `bar` as in the stream. `last_ms` is its close time."""
    [row] = kline_rows(listing, bar, [last_ms])
    return {
        "t": row[0],
        "T": row[6],
        "s": listing.symbol,
        "i": interval,
        "f": int(bar.first[0]),
        "L": int(bar.last[0]),
        "o": row[1],
        "c": row[4],
        "h": row[2],
        "l": row[3],
        "v": row[5],
        "n": row[8],
        "x": final,
        "q": row[7],
        "V": row[9],
        "Q": row[10],
        "B": "0",
    }


def kline_rows(listing: SimulatedListing, bars: BarColumns, lasts: Iterable[int]) -> list[list[Any]]:
    """Return bars as in REST. `lasts` are their close times."""
    tick, price_decimals = listing.tick_units
    lot, size_decimals = listing.lot_units
    counts = np.where(bars.first >= 0, bars.last - bars.first + 1, 0)
    columns = (
        bars.time.tolist(),
        *(_format_column(column, tick, price_decimals) for column in bars[1:5]),
        _format_column(bars.volume, lot, size_decimals),
        lasts,
        _format_column(bars.quote, tick * lot, price_decimals + size_decimals),
        counts.tolist(),
        _format_column(bars.bought, lot, size_decimals),
        _format_column(bars.bought_quote, tick * lot, price_decimals + size_decimals),
        repeat("0", len(counts)),
    )
    return list(map(list, zip(*columns, strict=True)))


def _format_column(numbers: Ints, units: int, decimals: int) -> Iterator[str]:
    """What `fixed` makes of each number of so many units of the last decimal. No listing has more than eight."""
    factor = units * 10 ** (DECIMALS - decimals)
    for number in numbers.tolist():
        whole, fraction = divmod(number * factor, 10**DECIMALS)
        yield f"{whole}.{fraction:08d}"


def day_ticker(span: dict[str, Any], listing: SimulatedListing, last: TapeTrade, quote: TapeQuote) -> dict[str, Any]:
    """Return a `ticker/24hr` of the rolling day in `span`."""
    return span | {
        "prevClosePrice": span["openPrice"],
        "lastQty": format_fixed(listing.amount(last.size)),
        "bidPrice": format_fixed(listing.price(quote.bid)),
        "bidQty": format_fixed(listing.amount(quote.bid_size)),
        "askPrice": format_fixed(listing.price(quote.ask)),
        "askQty": format_fixed(listing.amount(quote.ask_size)),
    }


def span_ticker(
    listing: SimulatedListing, span: BarColumns, last: TapeTrade, opens: int, closes: int
) -> dict[str, Any]:
    """Return a ticker of the only bar of `span`; an empty `span` has no trade after `last`."""
    prices = [span.open, span.high, span.low, span.close]
    opened, high, low, close = (listing.price(int(each[0]) if len(each) else last.price) for each in prices)
    volume, turnover = (int(each[0]) if len(each) else 0 for each in (span.volume, span.quote))
    first, final = (int(each[0]) if len(each) else -1 for each in (span.first, span.last))
    mean = listing.turnover(turnover) / listing.amount(volume) if volume else Decimal(0)
    return {
        "symbol": listing.symbol,
        "priceChange": format_fixed(close - opened),
        "priceChangePercent": f"{(close - opened) / opened * 100:.3f}",
        "weightedAvgPrice": format_fixed(mean),
        "openPrice": format_fixed(opened),
        "highPrice": format_fixed(high),
        "lowPrice": format_fixed(low),
        "lastPrice": format_fixed(close),
        "volume": format_fixed(listing.amount(volume)),
        "quoteVolume": format_fixed(listing.turnover(turnover)),
        "openTime": opens,
        "closeTime": closes,
        "firstId": first,
        "lastId": final,
        "count": final - first + 1 if volume else 0,
    }
