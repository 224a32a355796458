"""Binance's present: last prices, best prices, the rolling day and the order book."""

from typing import Any

from services.simulator.binance import query as asked
from services.simulator.binance.history import seen
from services.simulator.binance.payloads import MINI, book_ticker, day_ticker, fixed
from services.simulator.binance.query import Query
from services.simulator.dialect import About
from services.simulator.market.bars import Trade
from services.simulator.market.candles import summary
from services.simulator.market.listings import BINANCE, DAY, FROZEN, MINUTE
from services.simulator.market.quotes import Quote, mix, quote
from services.simulator.market.tape import Tape
from services.simulator.service import Simulation

ZERO = "0.00000000"
DELISTED = 1_706_598_000_000  # 2024-01-30


def price(sim: Simulation, query: Query) -> Any:
    """Last prices; those of dead symbols stand still for ever."""

    def row(name: str) -> dict[str, Any]:
        if name in FROZEN:
            return {"symbol": name, "price": FROZEN[name][1]}
        tape, now = seen(sim, name)
        return {"symbol": name, "price": fixed(tape.listing.price(_last(tape, now).price))}

    return asked.each(query, row)


def best(sim: Simulation, query: Query) -> Any:
    """Best bid and ask; nothing on the books of dead symbols."""

    def row(name: str) -> dict[str, Any]:
        values = [ZERO] * 4
        if name not in FROZEN:
            tape, now = seen(sim, name)
            ticker = book_ticker(tape.listing, _quote(tape, now))
            values = [ticker[letter] for letter in "bBaA"]
        return dict(zip(("symbol", "bidPrice", "bidQty", "askPrice", "askQty"), (name, *values), strict=True))

    return asked.each(query, row)


def day(sim: Simulation, query: Query) -> Any:
    """The rolling day."""
    mini = query.get("type", "FULL") == "MINI"

    def row(name: str) -> dict[str, Any]:
        found = _frozen_day(name) if name in FROZEN else _day(*seen(sim, name))
        return {key: found[key] for key in MINI} if mini else found

    return asked.each(query, row)


def average(sim: Simulation, query: Query) -> Any:
    """The mean of five minutes, weighted by volume."""
    name = asked.symbol(query)
    if name in FROZEN:
        return {"mins": 5, "price": FROZEN[name][1], "closeTime": DELISTED}
    tape, now = seen(sim, name)
    listing, last, minutes = tape.listing, _last(tape, now), summary(tape, now - 5 * MINUTE, now + 1)
    mean = listing.price(last.price)
    if len(minutes.time):
        mean = listing.turnover(int(minutes.quote[0])) / listing.amount(int(minutes.volume[0]))
    return About(listing.instrument, {"mins": 5, "price": fixed(mean), "closeTime": last.time})


def depth(sim: Simulation, query: Query) -> Any:
    """An order book about the quote."""
    name, limit = asked.symbol(query), asked.limit(query, 100, 5000)
    if name in FROZEN:
        return {"lastUpdateId": 0, "bids": [], "asks": []}
    tape, now = seen(sim, name)
    listing, top = BINANCE[name], _quote(tape, now)

    def level(price: int, best: int, size: int) -> list[str]:
        lots = size if price == best else 1 + mix(price) % (size * 3)
        return [fixed(listing.price(price)), fixed(listing.amount(lots))]

    bids = [level(top.bid - step, top.bid, top.bid_size) for step in range(min(limit, top.bid - 1))]
    asks = [level(top.ask + step, top.ask, top.ask_size) for step in range(limit)]
    return {"lastUpdateId": top.time, "bids": bids, "asks": asks}


def _last(tape: Tape, now: int) -> Trade:
    return tape.before(now + 1) or asked.refuse(-1000, "There was no trade yet.")


def _quote(tape: Tape, now: int) -> Quote:
    return quote(tape, now) or asked.refuse(-1000, "There was no trade yet.")


def _day(tape: Tape, now: int) -> dict[str, Any]:
    span = summary(tape, now - DAY + 1, now + 1)
    if not len(span.time):
        asked.refuse(-1000, "There was no trade in the last day.")
    return day_ticker(tape.listing, span, _last(tape, now), _quote(tape, now), now)


def _frozen_day(name: str) -> dict[str, Any]:
    """What is left of a dead symbol: its last price, no book, no volume, an old time."""
    nothing = "priceChange weightedAvgPrice lastQty bidPrice bidQty askPrice askQty volume quoteVolume"
    prices = "prevClosePrice lastPrice openPrice highPrice lowPrice"
    return {
        "symbol": name,
        "priceChangePercent": "0.000",
        **dict.fromkeys(nothing.split(), ZERO),
        **dict.fromkeys(prices.split(), FROZEN[name][1]),
        **{"openTime": DELISTED - DAY, "closeTime": DELISTED, "firstId": -1, "lastId": -1, "count": 0},
    }
