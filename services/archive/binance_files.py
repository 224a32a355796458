"""Binance's public files, by their names: klines, aggregate trades and trades of a day or a month, as CSV or in a ZIP.

`BTCUSDT-1m-2024-01.zip`, `BTCUSDT-aggTrades-2024-01-05.csv`.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from services.archive.pair_resolver import Pairs
from services.core.errors import BadFile
from services.core.model import Instrument, Series
from services.core.symbols import bare
from services.core.timeframes import TIMEFRAMES

EXCHANGE = "binance"
NAME = re.compile(r"(?P<symbol>\w+)-(?P<kind>\w+)-(?P<month>\d{4}-\d\d)(-(?P<day>\d\d))?\.(csv|zip)", re.IGNORECASE)
TIMEFRAME = re.compile(r"\d+[A-Za-z]+")
MONTH = {"1mo": "1M"}  # a file system may take 1M for 1m
CONTRACT = re.compile(r"\w+_(PERP|\d{6})", re.IGNORECASE)
EXAMPLE = "the name must be as Binance writes it, for example BTCUSDT-1m-2024-01.zip"
SPOT_ONLY = "Kurs keeps Binance's spot market alone"


class Kind(StrEnum):
    """What a file's rows are."""

    KLINES = "klines"
    TRADES = "trades"
    AGGREGATE_TRADES = "aggTrades"


class Dump(NamedTuple):
    """One file and what its name says: its times are in [since, until), in ms."""

    path: Path
    series: Series
    kind: Kind
    since: int
    until: int


class _Name(NamedTuple):
    symbol: str
    kind: Kind
    timeframe: str
    since: int
    until: int


async def named(paths: Iterable[Path], pairs: Pairs) -> list[Dump]:
    """What the names of files say, in the order of their series and times. Raises BadFile."""
    found = [(path, _understood(path)) for path in paths]
    dumps = [
        Dump(path, Series(EXCHANGE, await _pair(path, name, pairs), name.timeframe), name.kind, name.since, name.until)
        for path, name in found
    ]
    return sorted(dumps, key=lambda dump: (str(dump.series.instrument), dump.kind, dump.series.timeframe, dump.since))


async def _pair(path: Path, name: _Name, pairs: Pairs) -> Instrument:
    try:
        return await pairs.of(name.symbol)
    except BadFile as error:
        raise BadFile(f"{path.name}: {error}") from None


def _understood(path: Path) -> _Name:
    if not path.is_file():
        raise BadFile(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
    match = NAME.fullmatch(path.name)
    if match is None:
        raise BadFile(f"{path.name}: {EXAMPLE}")
    symbol = match["symbol"].upper()
    if CONTRACT.fullmatch(symbol) or "futures" in path.parts:
        raise BadFile(f"{path.name}: these are futures; {SPOT_ONLY}")
    kind, timeframe = _kind(path, match["kind"])
    if bare(symbol) != symbol:
        raise BadFile(f"{path.name}: {EXAMPLE}")
    return _Name(symbol, kind, timeframe, *_period(path, match["month"], match["day"]))


def _kind(path: Path, word: str) -> tuple[Kind, str]:
    for kind in (Kind.TRADES, Kind.AGGREGATE_TRADES):
        if word.lower() == kind.lower():
            return kind, "1m"
    if not TIMEFRAME.fullmatch(word):
        kinds = ", ".join([*Kind][1:])
        raise BadFile(f"{path.name}: {word} are no candles; there are klines of a timeframe (1m, 1h, …), {kinds}")
    timeframe = MONTH.get(word, word)
    if timeframe == "1s":
        raise BadFile(f"{path.name}: the shortest candles of Kurs are of a minute: take the file of 1m")
    if timeframe not in TIMEFRAMES:
        raise BadFile(f"{path.name}: {timeframe} is not a timeframe of Kurs; there are: {', '.join(TIMEFRAMES)}")
    return Kind.KLINES, timeframe


def _period(path: Path, month: str, day: str | None) -> tuple[int, int]:
    try:
        since = datetime.fromisoformat(f"{month}-{day or '01'}").replace(tzinfo=UTC)
        until = since + timedelta(days=1) if day else (since + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):
        raise BadFile(f"{path.name}: there is no such date; {EXAMPLE}") from None
    return int(since.timestamp() * 1000), int(until.timestamp() * 1000)
