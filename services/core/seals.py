"""Seals: a chain of hashes over closed days, which a silent edit breaks."""

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256

from msgspec import Struct, field

from services.core.model import Bar, Candle, Series

GENESIS = ""  # what the first seal of a series is chained to


class Seal(Struct, frozen=True, tag="seal"):
    """A hash over one closed UTC day of a series, chained to the day before. `revision` counts later corrections."""

    series: Series
    day: int  # its first ms
    candles: int
    digest: str  # hex SHA-256 of the previous digest and the day's candles
    previous: str
    created_at: int = field(name="made")
    revision: int = 0


def digest(previous: str, candles: Sequence[Candle]) -> str:
    """Hex SHA-256 of the previous digest and a day's candles, oldest first. How a number is written does not matter."""
    lines = [previous, *(_digest_line(candle.bar) for candle in candles)]
    return sha256("\n".join(lines).encode()).hexdigest()


def new_seal(series: Series, day: int, candles: Sequence[Candle], previous: str, created_at: int) -> Seal:
    """The first seal of a day."""
    return Seal(series, day, len(candles), digest(previous, candles), previous, created_at)


def next_revision(stored: Seal | None, new: Seal) -> Seal | None:
    """What is kept of a day that is sealed again; None: it is as it was."""
    if stored is None:
        return new
    if (stored.digest, stored.previous) == (new.digest, new.previous):
        return None
    return Seal(new.series, new.day, new.candles, new.digest, new.previous, new.created_at, stored.revision + 1)


def _digest_line(bar: Bar) -> str:
    amounts = bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume
    return " ".join([str(bar.open_time), *map(_format_decimal, amounts), str(bar.trades)])


def _format_decimal(number: Decimal) -> str:
    """1.50 and 1.5 are one number: text without zeros at the end, nor an exponent."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
