"""Deribit's payloads: decimals as JSON numbers, times in ms."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from services.simulator.deribit.instruments import index_of, inverse, perpetual
from services.simulator.fault_injection import PayloadFields
from services.simulator.market.bar_columns import BarColumns, TapeTrade
from services.simulator.market.listings import DAY, INDICES, SimulatedListing
from services.simulator.market.order_book import BookLevel, BookUpdate, OrderBook
from services.simulator.market.simulated_market import SimulatedMarket
from services.simulator.market.tape import Tape
from services.simulator.market.tape_candles import summary
from services.simulator.market.tape_quotes import TapeQuote

PRICES = (
    "price index_price mark_price best_bid_price best_ask_price last_price estimated_delivery_price settlement_price "
    "min_price max_price bid_price ask_price mid_price last"
)
PAYLOAD_FIELDS = PayloadFields(
    "deribit",
    times={"timestamp": 1, "usIn": 1000, "usOut": 1000},
    prices=frozenset(PRICES.split()),
    states=frozenset({"state", "direction", "type", "kind"}),
    order_books=frozenset({"bids", "asks"}),
)
SNAPSHOT_DEPTH = 1000  # levels on a side of a snapshot
STATS_CACHE_MS = 10_000  # for which the statistics of a day are cached


def index_price(market: SimulatedMarket, name: str, at: int) -> Decimal:
    """Return an index price with its number of decimals."""
    return round(Decimal(market.index(name, at)), INDICES[name])


def trades(market: SimulatedMarket, tape: Tape, tape_trades: Sequence[TapeTrade]) -> list[dict[str, Any]]:
    """Return consecutive trades."""
    return [_trade(market, tape.listing, trade, direction) for trade, direction in _tick_directions(tape, tape_trades)]


def quote(listing: SimulatedListing, standing: TapeQuote) -> dict[str, Any]:
    """Return best bid and ask."""
    return {
        "timestamp": standing.time,
        "instrument_name": listing.symbol,
        "best_bid_price": listing.price(standing.bid),
        "best_bid_amount": listing.amount(standing.bid_size),
        "best_ask_price": listing.price(standing.ask),
        "best_ask_amount": listing.amount(standing.ask_size),
    }


def ticker(market: SimulatedMarket, tape: Tape, standing: TapeQuote, at: int) -> dict[str, Any]:
    """Return a ticker at a time."""
    listing = tape.listing
    last, index = tape.last_before(at + 1), index_price(market, index_of(listing), at)
    body = {
        **quote(listing, standing),
        "timestamp": at,
        "state": "open",
        "last_price": listing.price(last.price) if last else None,
        "mark_price": _mark_price(index),
        "index_price": index,
        "min_price": _price_limit(listing, index, Decimal("0.985")),
        "max_price": _price_limit(listing, index, Decimal("1.015")),
        "stats": _stats(tape, at // STATS_CACHE_MS * STATS_CACHE_MS),
    }
    if perpetual(listing):
        body |= {
            "estimated_delivery_price": index,
            "settlement_price": index_price(market, index_of(listing), _last_settlement(at)),
        }
        body |= {"open_interest": 1_000_000_000, "current_funding": 0.0, "funding_8h": 1e-05, "interest_value": 0.0}
    return body


def book_summary(market: SimulatedMarket, tape: Tape, standing: TapeQuote, at: int) -> dict[str, Any]:
    """Return a short ticker with names of its own."""
    listing, whole = tape.listing, ticker(market, tape, standing, at)
    bid, ask = whole["best_bid_price"], whole["best_ask_price"]
    shared = (
        "instrument_name",
        "mark_price",
        "open_interest",
        "estimated_delivery_price",
        "current_funding",
        "funding_8h",
    )
    return {
        **{name: whole[name] for name in shared if name in whole},
        **whole["stats"],
        "bid_price": bid,
        "ask_price": ask,
        "mid_price": (bid + ask) / 2,
        "last": whole["last_price"],
        "base_currency": listing.instrument.base,
        "quote_currency": listing.instrument.quote,
        "creation_timestamp": at,
    }


def levels(listing: SimulatedListing, side: Iterable[BookLevel]) -> list[list[Decimal]]:
    """Return price and size of each level."""
    return [[listing.price(level.price), listing.amount(level.size)] for level in side]


def top_levels(book: OrderBook, depth: int, at: int) -> dict[str, Any]:
    """Return the best levels of a book."""
    listing = book.tape.listing
    sides = {"bids": levels(listing, book.bids(depth)), "asks": levels(listing, book.asks(depth))}
    return {"timestamp": at, "instrument_name": listing.symbol, "change_id": book.top.time, **sides}


def book_snapshot(book: OrderBook, at: int) -> dict[str, Any]:
    """Return a whole book, which changes follow."""
    body = top_levels(book, SNAPSHOT_DEPTH, at)
    return {"type": "snapshot"} | body | {name: [["new", *level] for level in body[name]] for name in ("bids", "asks")}


def book_change(before: OrderBook, change: BookUpdate, at: int) -> dict[str, Any]:
    """Return the levels that changed since `before`."""
    listing = before.tape.listing
    bids = [(before.bid(level.price), level) for level in change.bids]
    asks = [(before.ask(level.price), level) for level in change.asks]
    return {
        "type": "change",
        "timestamp": at,
        "instrument_name": listing.symbol,
        "change_id": change.last,
        "prev_change_id": before.top.time,
        "bids": _actions(listing, bids),
        "asks": _actions(listing, asks),
    }


def _actions(listing: SimulatedListing, side: Iterable[tuple[BookLevel, BookLevel]]) -> list[list[Any]]:
    """Return the action on each level with its price and size. A level that came and went is left out."""
    moved = [(old, new) for old, new in side if old.size or new.size]
    actions = ["delete" if not new.size else "change" if old.size else "new" for old, new in moved]
    return [[action, *level] for action, level in zip(actions, levels(listing, [new for _, new in moved]), strict=True)]


def volume_and_cost(listing: SimulatedListing, bars: BarColumns, row: int) -> tuple[Decimal, Decimal]:
    """Return what was traded in base and in quote currency.

    Of an inverse contract the cost is exact, and the volume follows from the average price.
    """
    amount, turnover = listing.amount(int(bars.volume[row])), listing.turnover(int(bars.quote[row]))
    if not inverse(listing):
        return amount, turnover
    return (round(amount * amount / turnover, 8) if turnover else Decimal(0)), amount


def _trade(market: SimulatedMarket, listing: SimulatedListing, trade: TapeTrade, direction: int) -> dict[str, Any]:
    index = index_price(market, index_of(listing), trade.time)
    return {
        "trade_seq": trade.id,
        "trade_id": _trade_id(listing, trade.id),
        "timestamp": trade.time,
        "instrument_name": listing.symbol,
        "price": listing.price(trade.price),
        "amount": listing.amount(trade.size),
        "contracts": Decimal(trade.size),
        "direction": "sell" if trade.sold else "buy",
        "tick_direction": direction,
        "index_price": index,
        "mark_price": _mark_price(index),
    }


def _trade_id(listing: SimulatedListing, number: int) -> str:
    """Return the trade's id: digits for BTC's inverse contract, with a prefix for all others."""
    name = listing.instrument.base if inverse(listing) else listing.symbol
    return str(number) if name == "BTC" else f"{name}-{number}"


def _tick_directions(tape: Tape, tape_trades: Sequence[TapeTrade]) -> Iterator[tuple[TapeTrade, int]]:
    """Yield each trade with 0 (up), 1 (level after up), 2 (down) or 3 (level after down)."""
    if not tape_trades:
        return
    earlier = tape.from_id(max(1, tape_trades[0].id - 20), min(20, tape_trades[0].id - 1))
    price, level = (earlier or tape_trades)[0].price, 1
    for trade in [*earlier, *tape_trades]:
        move = 0 if trade.price > price else 2 if trade.price < price else level
        price, level = trade.price, move | 1
        if trade.id >= tape_trades[0].id:
            yield trade, move


def _mark_price(index: Decimal) -> Decimal:
    return round(index * Decimal("1.00005"), max(2, -int(index.as_tuple().exponent)))


def _price_limit(listing: SimulatedListing, index: Decimal, factor: Decimal) -> Decimal:
    return listing.price(int(index * factor / listing.tick))


def _last_settlement(at: int) -> int:
    """Return the time of the last settlement, at 08:00 UTC."""
    return (at - DAY // 3) // DAY * DAY + DAY // 3


@lru_cache(64)
def _stats(tape: Tape, at: int) -> dict[str, Any]:
    day, listing = summary(tape, at - DAY, at), tape.listing
    if not len(day.time):
        return dict.fromkeys(("high", "low", "price_change", "volume", "volume_usd", "volume_notional"))
    opened, close = listing.price(int(day.open[0])), listing.price(int(day.close[0]))
    volume, cost = volume_and_cost(listing, day, 0)
    return {
        "high": listing.price(int(day.high[0])),
        "low": listing.price(int(day.low[0])),
        "price_change": round((close - opened) / opened * 100, 4),
        "volume": volume,
        "volume_usd": cost,
        "volume_notional": cost,
    }
