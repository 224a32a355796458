"""Binance's public files: klines and aggregate trades of a day or a month, as CSV, plain or in a ZIP.

Their names say what is in them (`BTCUSDT-1m-2024-01.zip`, `BTCUSDT-aggTrades-2024-01-05.csv`); some have a header, and
times are milliseconds or, since 2025, microseconds.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from services.core import bounds
from services.core.candles import empty, traded
from services.core.errors import BadFile
from services.core.model import Bar, Instrument, Kline, Origin, Series, Trade
from services.core.routes import FIAT
from services.core.symbols import bare
from services.core.timeframes import DAY, MINUTE, TIMEFRAMES
from services.core.times import milliseconds

EXCHANGE = "binance"
TRADES = "aggTrades"
NAME = re.compile(r"(?P<symbol>[A-Z0-9]+)-(?P<kind>aggTrades|\d+(?:mo|[mhdwM]))-\d{4}-\d\d(-\d\d)?\.(csv|zip)")
MONTH = {"1mo": "1M"}  # a file system may take 1M for 1m
STABLE = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD1", "BTC", "ETH", "BNB", "TRX", "XRP", "DOGE")
QUOTES = sorted([*STABLE, *FIAT, "BIDR", "IDRT", "AEUR", "EURI", "NGN", "RON", "PAX", "UST"], key=len, reverse=True)
SILENCE = 31 * DAY  # ms; a file holds no more than a month
Read = Callable[[int], None]  # is told how many bytes were read


class Dump(NamedTuple):
    """One file and what its name says."""

    path: Path
    series: Series
    trades: bool

    @property
    def size(self) -> int:
        """Bytes of text. Raises BadFile."""
        if self.path.suffix != ".zip":
            return self.path.stat().st_size
        with _archive(self.path) as archive:
            return _member(archive, self.path).file_size


def named(path: Path, known: Iterable[Instrument]) -> Dump:
    """What a file's name says; `known` instruments help to tell base from quote. Raises BadFile."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise BadFile(f"{path.name}: the name must be as Binance writes it, for example BTCUSDT-1m-2024-01.zip")
    if not path.is_file():
        raise BadFile(f"{path}: there is no such file")
    kind = match["kind"]
    timeframe = "1m" if kind == TRADES else MONTH.get(kind, kind)
    if timeframe not in TIMEFRAMES:
        raise BadFile(f"{path.name}: {timeframe} is not a timeframe of Kurs; there are: {', '.join(TIMEFRAMES)}")
    return Dump(path, Series(EXCHANGE, _instrument(path, match["symbol"], known), timeframe), kind == TRADES)


def klines(dump: Dump, read: Read, now: int) -> Iterator[Kline]:
    """The candles of a file, oldest first, all of which are over. Raises BadFile with the line."""
    bars = _minutes(dump, read, now) if dump.trades else _bars(dump, read, now)
    return (Kline(dump.series, bar, Origin.IMPORT) for bar in bars)


def _instrument(path: Path, symbol: str, known: Iterable[Instrument]) -> Instrument:
    for instrument in known:
        if bare(str(instrument)) == symbol:
            return instrument
    for quote in QUOTES:
        if symbol.endswith(quote) and symbol != quote:
            return Instrument(symbol.removesuffix(quote), quote)
    raise BadFile(f"{path.name}: {symbol} could be split anywhere: name the pair in KURS_SYMBOLS, as BASE-QUOTE")


def _bars(dump: Dump, read: Read, now: int) -> Iterator[Bar]:
    """Rows: opening, open, high, low, close, volume, end, quote volume, trades, and three more."""
    timeframe, last = TIMEFRAMES[dump.series.timeframe], -1
    for line, fields in _rows(dump, read, 9):
        with _Line(dump, line):
            bar = _bar(fields)
            if wrong := bounds.bar_fault(bar, timeframe, now):
                raise ValueError(wrong.detail)
            if bar.timestamp <= last:
                raise ValueError("it is not later than the line before")
        last = bar.timestamp
        yield bar


def _bar(fields: list[str]) -> Bar:
    open_, high, low, close, volume = map(_amount, fields[1:6])
    opened, quote, trades = milliseconds(int(fields[0])), _amount(fields[7]), int(fields[8])
    return Bar(opened, open_, high, low, close, volume, quote, trades)


def _minutes(dump: Dump, read: Read, now: int) -> Iterator[Bar]:
    """Minutes built from trades; those between two trades in which nothing was traded are empty."""
    bar: Bar | None = None
    number: int | None = None
    for line, fields in _rows(dump, read, 7):
        with _Line(dump, line):
            trade = _trade(dump.series, fields)
            if number is not None and trade.number != number + 1:
                raise ValueError(f"trade {trade.number} follows {number}: the file is not whole, take its klines")
            minute, number = trade.time // MINUTE * MINUTE, trade.number
            if bar is not None and minute - bar.timestamp > SILENCE:
                raise ValueError("it is more than a month after the line before: take the klines")
            if bar is not None and minute < bar.timestamp:
                raise ValueError("it is of an earlier minute than the line before: take the klines")
            if minute + MINUTE > now:
                raise ValueError("its minute is not over yet")
        while bar is not None and bar.timestamp < minute:
            yield bar
            bar = empty(bar.timestamp + MINUTE, bar.close)
        bar = traded(bar, trade)
    if bar is not None:
        yield bar


def _trade(series: Series, fields: list[str]) -> Trade:
    """Fields: number, price, size, first and last fill, time, whether the buyer was the maker, and one more."""
    number, first, last = int(fields[0]), int(fields[3]), int(fields[4])
    price, size, time = _amount(fields[1]), _amount(fields[2]), milliseconds(int(fields[5]))
    buyer_made = fields[6].lower() == "true"
    trade = Trade(EXCHANGE, series.instrument, time, time, price, size, number, last - first + 1, buyer_made)
    if wrong := bounds.trade_fault(trade, bounds.LATEST):
        raise ValueError(wrong.detail)
    return trade


def _rows(dump: Dump, read: Read, least: int) -> Iterator[tuple[int, list[str]]]:
    """The file's lines with their numbers, without a header."""
    done = 0
    for number, line in enumerate(_lines(dump.path), 1):
        done += len(line)
        read(done)
        with _Line(dump, number):
            fields = line.decode("ascii").strip().split(",")
            if len(fields) < least and fields != [""]:
                raise ValueError(f"{len(fields)} columns, at least {least} are needed")
        if fields != [""] and not (number == 1 and not fields[0].isdigit()):
            yield number, fields


def _lines(path: Path) -> Iterator[bytes]:
    if path.suffix != ".zip":
        with path.open("rb") as plain:
            yield from plain
        return
    with _archive(path) as archive, archive.open(_member(archive, path)) as packed:
        try:
            yield from packed
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise BadFile(f"{path.name}: the ZIP is damaged: {error}") from None


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise BadFile(f"{path.name}: {error}") from None


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if member.filename.endswith(".csv")]
    if len(members) != 1:
        raise BadFile(f"{path.name}: one CSV is expected in it, there are {len(members)}")
    return members[0]


def _amount(text: str) -> Decimal:
    amount = Decimal(text)
    if not bounds.is_amount(amount):
        raise ValueError(f"{bounds.shown(text)!r} is not an amount")
    return amount


class _Line:
    """What is wrong inside is told with the file and the line."""

    def __init__(self, dump: Dump, number: int) -> None:
        self._dump, self._number = dump, number

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ValueError | InvalidOperation | OverflowError):
            reason = "a number cannot be read" if isinstance(error, InvalidOperation) else str(error)
            raise BadFile(f"{self._dump.path.name}, line {self._number}: {reason}") from None
