"""What queries about candles have in common: names, times, and the range of open times."""

from enum import StrEnum
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct, field

from services.core import times
from services.core.errors import BadRange
from services.core.timeframes import TIMEFRAMES, Timeframe

MAX_CANDLES = 1000
TIME_TEXT = "UNIX seconds or milliseconds, or RFC 3339"
SymbolName = Annotated[str, Meta(description="BTC-USDT, BTCUSDT or BINANCE:BTCUSDT", examples=["BTCUSDT"])]
TimeframeName = Annotated[
    str,
    Meta(description="1m to 1M: see /api/timeframes", examples=["1m"], extra_json_schema={"enum": list(TIMEFRAMES)}),
]
ExchangeName = Annotated[str, Meta(description="Without it the first configured one that has the symbol")]
Time = Annotated[int, Meta(extra={"parse": times.parse})]
Limit = Annotated[
    Annotated[int, Meta(ge=1, le=MAX_CANDLES)] | None,
    Meta(description="The oldest so many; without `from` the newest"),
]


class Fill(StrEnum):
    """What stands in a response for candles that are missing: nothing, the last close before them, or null."""

    NONE = "none"
    PREV = "prev"
    NULL = "null"


class CandleRange(NamedTuple):
    """Open times in [since, until]; without `since` the newest up to `until`. `limit`: at most so many candles."""

    since: int | None
    until: int
    limit: int | None = None

    def of_closed(self, forming: int) -> "CandleRange":
        """Return the range of closed candles in a response that has so many forming ones."""
        limit = self.limit or (MAX_CANDLES if self.since is None else None)
        return self._replace(limit=limit and limit - forming)


class CandleRangeQuery(Struct, kw_only=True, frozen=True):
    """A query about candles of a range of time."""

    since: Annotated[Time | None, Meta(description=TIME_TEXT)] = field(name="from", default=None)
    until: Annotated[Time | None, Meta(description=f"{TIME_TEXT}; without it now")] = field(name="to", default=None)
    exchange: ExchangeName = ""

    def candle_range(self, now: int, limit: int | None = None) -> CandleRange:
        """Return the range, which ends now at the latest. Raises BadRange."""
        since, until = self.since, self.until
        if since is not None and since > now:
            raise BadRange(f"from, {times.format_rfc3339(since)}, is in the future: it is {times.format_rfc3339(now)}")
        if since is not None and until is not None and since > until:
            raise BadRange(
                f"from, {times.format_rfc3339(since)}, is after to, {times.format_rfc3339(until)}: swap them"
            )
        return CandleRange(since, now if until is None else min(until, now), limit)


def check_range(timeframe: Timeframe, since: int, until: int) -> None:
    """Raises BadRange when [since, until] has more candles than a response."""
    count = timeframe.count_between(since, until) if timeframe.length else 0
    if count > MAX_CANDLES:
        last = timeframe.step_back(timeframe.open_time(since) + MAX_CANDLES * timeframe.length, 1)
        raise BadRange(
            f"{times.format_rfc3339(since)} to {times.format_rfc3339(until)} has {count} candles of {timeframe.name}, "
            f"at most {MAX_CANDLES} are sent: end at {times.format_rfc3339(last)}, or write limit={MAX_CANDLES} and "
            "continue from the last one"
        )
