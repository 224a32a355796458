"""Seals: a chain of hashes over the closed days of a series, which an edit behind the writer's back breaks."""

from collections.abc import Sequence
from hashlib import sha256

from msgspec import Struct, field

from services.core.decimals import format_decimal
from services.core.model import Bar, Candle, Series

GENESIS = ""  # the digest before the first seal of a series


class Seal(Struct, frozen=True, tag="seal"):
    """A hash over one closed UTC day of a series, chained to the seal before. `revision` counts later corrections."""

    series: Series
    day: int  # its first ms
    candles: int
    digest: str  # hex SHA-256 of the previous digest and the day's candles
    previous: str
    created_at: int = field(name="made")
    revision: int = 0


def digest(previous: str, candles: Sequence[Candle]) -> str:
    """Return the hex SHA-256 of the previous digest and a day's candles, oldest first.

    Zeros at the end of a number do not change it.
    """
    lines = [previous, *(_digest_line(candle.bar) for candle in candles)]
    return sha256("\n".join(lines).encode()).hexdigest()


def new_seal(series: Series, day: int, candles: Sequence[Candle], previous: str, created_at: int) -> Seal:
    """Return the first seal of a day."""
    return Seal(series, day, len(candles), digest(previous, candles), previous, created_at)


def next_revision(stored: Seal | None, new: Seal) -> Seal | None:
    """Return what to save of a day that is sealed again, or None when nothing has changed."""
    if stored is None:
        return new
    if (stored.digest, stored.previous) == (new.digest, new.previous):
        return None
    return Seal(
        new.series, new.day, new.candles, new.digest, new.previous, new.created_at, revision=stored.revision + 1
    )


def _digest_line(bar: Bar) -> str:
    amounts = bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume
    return " ".join([str(bar.open_time), *map(format_decimal, amounts), str(bar.trades)])
