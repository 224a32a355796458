"""Quotes: best bid and ask about the last trade, with sizes that change at intervals."""

from typing import NamedTuple

from services.simulator.market.tape import Tape

MASK_64 = 2**64 - 1
WIDE_QUOTE_EVERY = 24  # one quote in so many is wider than a tick


class TapeQuote(NamedTuple):
    """Best bid and ask since `time`. Ticks and lots."""

    time: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int


def quote(tape: Tape, at: int) -> TapeQuote | None:
    """Return the quote at a time; None before the first trade."""
    trade = tape.last_before(at + 1)
    if trade is None:
        return None
    time = max(trade.time, _own_change(tape, at))
    noise = mix_bits(time ^ (tape.salt << 20))
    spread = 1 + (noise % WIDE_QUOTE_EVERY == 0) * (1 + (noise >> 8) % 3)
    bid = trade.price if trade.sold else trade.price - spread
    size = round(tape.listing.size * 4)
    return TapeQuote(time, bid, 1 + (noise >> 16) % size, bid + spread, 1 + (noise >> 40) % size)


def quotes(tape: Tape, since: int, until: int) -> list[TapeQuote]:
    """Return every change in (since, until]."""
    times = {trade.time for trade in tape.trades(since + 1, until + 1)}
    step = tape.listing.quote_ms
    times.update(_own_change(tape, number * step + step - 1) for number in range(since // step, until // step + 1))
    quotes = [quote(tape, time) for time in sorted(times) if since < time <= until]
    return [change for change in quotes if change]


def _own_change(tape: Tape, at: int) -> int:
    """Return when a size last changed without a trade: once in each step, at an uneven time."""
    step = tape.listing.quote_ms
    number = at // step
    time = number * step + mix_bits(number ^ tape.salt) % step
    return time if time <= at else (number - 1) * step + mix_bits((number - 1) ^ tape.salt) % step


def mix_bits(bits: int) -> int:
    """Hash a number to 64 bits (the finaliser of splitmix64)."""
    bits = (bits + 0x9E3779B97F4A7C15) & MASK_64
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK_64
    return bits ^ (bits >> 31)
