"""The queries of TradingView's UDF protocol. Its charts may send more parameters than Kurs knows."""

from typing import Annotated

from msgspec import Meta, Struct, field

from services.core import times
from services.core.errors import unknown_name
from services.core.timeframes import MINUTE_MS, TIMEFRAMES, Timeframe
from services.web import UnknownNames

INTRADAY = {str(t.length // MINUTE_MS): t for t in TIMEFRAMES.values() if t.name[-1] in "mh"}
RESOLUTIONS = INTRADAY | {t.name[:-1] + t.name[-1].upper(): t for t in TIMEFRAMES.values() if t.name[-1] in "dwM"}
# As users write them, too: 1m and 1h as everywhere else in Kurs, 1H, d, W. Only of m and M the case counts.
SPELLINGS = {name.upper(): t for name, t in TIMEFRAMES.items() if name[-1] in "hdw"} | RESOLUTIONS | TIMEFRAMES
SPELLINGS |= {name.removeprefix("1"): t for name, t in SPELLINGS.items() if name[0] == "1" and name[1:].isalpha()}
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


def parse_resolution(name: str) -> Timeframe:
    """Parse a resolution: minutes, or days, weeks, months as `1D` or `D`; `1m` is a minute, `1M` a month.

    Raises UnknownName.
    """
    timeframe = SPELLINGS.get(name)
    if timeframe is None:
        raise unknown_name("resolution", name, list(RESOLUTIONS))
    return timeframe


def parse_time(text: str) -> int:
    """Parse a time to ms. A chart that is scrolled far back requests years before 1970 too. Raises ValueError."""
    return 0 if text.startswith("-") and text[1:].isdigit() else times.parse(text)


Time = Annotated[int, Meta(extra={"parse": parse_time})]
Resolution = Annotated[Timeframe, Meta(examples=["60"], extra={"parse": parse_resolution})]
SymbolName = Annotated[str, Meta(examples=["BTCUSDT"])]


class UdfQuery(Struct, kw_only=True, frozen=True):
    """A query that may have more parameters."""

    unknown: UnknownNames = ()


class SymbolQuery(UdfQuery, kw_only=True, frozen=True):
    """Which symbol to describe."""

    symbol: SymbolName


class SearchQuery(UdfQuery, kw_only=True, frozen=True):
    """A part of a symbol's name, with the exchange before it or beside it."""

    query: str = ""
    type: str = ""
    exchange: str = ""
    limit: Annotated[int, Meta(ge=0, le=1000)] = 0


class RangeOfBars(UdfQuery, kw_only=True, frozen=True):
    """A symbol and a range of time."""

    symbol: SymbolName
    resolution: Resolution
    since: Time = field(name="from", default=0)
    until: Time | None = field(name="to", default=None)


class HistoryQuery(RangeOfBars, kw_only=True, frozen=True):
    """Which bars; `countback`: the last ones before `to`, instead of those since `from`."""

    countback: Count = 0


class QuotesQuery(UdfQuery, kw_only=True, frozen=True):
    """Which symbols' prices."""

    symbols: Annotated[tuple[str, ...], Meta(examples=["BINANCE:BTCUSDT,BINANCE:ETHUSDT"])]
