"""Names of Binance's public data files: klines, aggregate trades or trades of a day or a month, as CSV or ZIP.

`BTCUSDT-1m-2024-01.zip`, `BTCUSDT-aggTrades-2024-01-05.csv`.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from services.archive.pair_resolver import PairResolver
from services.core.errors import BadFile
from services.core.model import Instrument, Series
from services.core.symbols import normalize
from services.core.timeframes import TIMEFRAMES

EXCHANGE_NAME = "binance"
NAME_PATTERN = re.compile(
    r"(?P<symbol>\w+)-(?P<kind>\w+)-(?P<month>\d{4}-\d\d)(-(?P<day>\d\d))?\.(csv|zip)", re.IGNORECASE
)
TIMEFRAME_PATTERN = re.compile(r"\d+[A-Za-z]+")
TIMEFRAME_ALIASES = {"1mo": "1M"}  # Binance's name of it, because file systems may not distinguish 1M from 1m
CONTRACT_PATTERN = re.compile(r"\w+_(PERP|\d{6})", re.IGNORECASE)
NAME_ADVICE = "use the name that Binance gave it, for example BTCUSDT-1m-2024-01.zip"
SPOT_ONLY = "Kurs supports only Binance's spot market"


class RowKind(StrEnum):
    """Kind of a file's rows."""

    KLINES = "klines"
    TRADES = "trades"
    AGGREGATE_TRADES = "aggTrades"


class DataFile(NamedTuple):
    """A file with the content of its name. Its times are in [since, until), in ms."""

    path: Path
    series: Series
    kind: RowKind
    since: int
    until: int


class _FileName(NamedTuple):
    symbol: str
    kind: RowKind
    timeframe: str
    since: int
    until: int


async def from_paths(paths: Iterable[Path], pairs: PairResolver) -> list[DataFile]:
    """Parse the names of files, and sort them by series and time. Raises BadFile."""
    names = [(path, _parse_name(path)) for path in paths]
    dumps = [
        DataFile(
            path,
            Series(EXCHANGE_NAME, await _resolve_pair(path, name, pairs), name.timeframe),
            name.kind,
            name.since,
            name.until,
        )
        for path, name in names
    ]
    return sorted(dumps, key=lambda dump: (str(dump.series.instrument), dump.kind, dump.series.timeframe, dump.since))


async def _resolve_pair(path: Path, name: _FileName, pairs: PairResolver) -> Instrument:
    try:
        return await pairs.resolve(name.symbol)
    except BadFile as error:
        raise BadFile(f"{path.name}: {error}") from None


def _parse_name(path: Path) -> _FileName:
    if not path.is_file():
        raise BadFile(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
    match = NAME_PATTERN.fullmatch(path.name)
    if match is None:
        raise BadFile(f"{path.name}: {NAME_ADVICE}")
    symbol = match["symbol"].upper()
    if CONTRACT_PATTERN.fullmatch(symbol) or "futures" in path.parts:
        raise BadFile(f"{path.name}: these are futures; {SPOT_ONLY}")
    kind, timeframe = _kind(path, match["kind"])
    if normalize(symbol) != symbol:
        raise BadFile(f"{path.name}: {NAME_ADVICE}")
    return _FileName(symbol, kind, timeframe, *_period(path, match["month"], match["day"]))


def _kind(path: Path, kind_name: str) -> tuple[RowKind, str]:
    for kind in (RowKind.TRADES, RowKind.AGGREGATE_TRADES):
        if kind_name.lower() == kind.lower():
            return kind, "1m"
    if not TIMEFRAME_PATTERN.fullmatch(kind_name):
        kinds = ", ".join([*RowKind][1:])
        raise BadFile(
            f"{path.name}: {kind_name} is not a supported kind of file; "
            f"there are klines of a timeframe (1m, 1h, …), {kinds}"
        )
    timeframe = TIMEFRAME_ALIASES.get(kind_name, kind_name)
    if timeframe == "1s":
        raise BadFile(f"{path.name}: the shortest timeframe of Kurs is 1m: use the file of 1m")
    if timeframe not in TIMEFRAMES:
        raise BadFile(f"{path.name}: {timeframe} is not a timeframe of Kurs; there are: {', '.join(TIMEFRAMES)}")
    return RowKind.KLINES, timeframe


def _period(path: Path, month: str, day: str | None) -> tuple[int, int]:
    try:
        since = datetime.fromisoformat(f"{month}-{day or '01'}").replace(tzinfo=UTC)
        until = since + timedelta(days=1) if day else (since + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):
        raise BadFile(f"{path.name}: there is no such date; {NAME_ADVICE}") from None
    return int(since.timestamp() * 1000), int(until.timestamp() * 1000)
