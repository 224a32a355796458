"""Rows of Binance's public data files. A wrong row is reported and left out.

Some files have a header. Times are milliseconds or, since 2025, microseconds.
"""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO

from services.archive.binance_files import SPOT_ONLY, DataFile, RowKind
from services.core import bounds
from services.core.errors import BadFile
from services.core.model import Bar, Trade
from services.core.timeframes import TIMEFRAMES
from services.core.times import format_rfc3339, to_ms

# Errors of reading a damaged, encrypted or unsupported archive, and of reading any file.
READ_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, NotImplementedError)
MAX_ROW_BYTES = 4_096  # a normal row has 150
MAX_EMPTY_LINES = 1_000  # in a row
MAX_SHOWN_PROBLEMS = 5  # printed one by one
COLUMN_COUNTS = {RowKind.KLINES: 12, RowKind.TRADES: 7, RowKind.AGGREGATE_TRADES: 8}
FUTURES_COLUMN_COUNTS = {RowKind.TRADES: 6, RowKind.AGGREGATE_TRADES: 7}  # klines have as many
# Names of the first column in a header, and names of columns that only futures files have; only letters and digits.
FIRST_COLUMN_NAMES = frozenset(("opentime", "id", "tradeid", "aggtradeid", "aggregatetradeid", "timestamp"))
FUTURES_COLUMN_NAMES = frozenset(("count", "takerbuyvolume", "transacttime"))
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FileReport:
    """Problems of a file, and how many bytes of it were read."""

    def __init__(self) -> None:
        self.shown = list[str]()  # the first problems
        self.problems = self.bytes_read = 0

    def reject_row(self, line: int, reason: object) -> None:
        """Record a row that is left out."""
        self.add_problem(f"line {line}: {reason}")

    def add_problem(self, text: str) -> None:
        """Record a problem."""
        self.problems += 1
        if self.problems <= MAX_SHOWN_PROBLEMS:
            self.shown.append(text)


def text_bytes(path: Path) -> int:
    """Return the number of bytes of the unpacked text. Raises BadFile."""
    with _open_text(path) as (_, length):
        return length


def bars(dump: DataFile, report: FileReport, now: int) -> Iterator[Bar]:
    """Yield bars of rows: open time, open, high, low, close, volume, close time, quote volume, trades, and three more.

    Raises BadFile.
    """
    timeframe = TIMEFRAMES[dump.series.timeframe]
    for line, fields in _rows(dump, report):
        try:
            bar = _parse_bar(fields)
        except (ValueError, ArithmeticError) as error:
            report.reject_row(line, error)
            continue
        if wrong := bounds.bar_violation(bar, timeframe, now):
            report.reject_row(line, wrong.detail)
        # A week may overlap the period.
        elif bar.open_time >= dump.until or timeframe.close_time(bar.open_time) <= dump.since:
            report.reject_row(line, _outside_period(bar.open_time))
        else:
            yield bar


def trades(dump: DataFile, report: FileReport) -> Iterator[tuple[int, Trade]]:
    """Yield trades with their line numbers, in the file's order. Raises BadFile."""
    for line, fields in _rows(dump, report):
        try:
            trade = _parse_trade(dump, fields)
        except (ValueError, ArithmeticError) as error:
            report.reject_row(line, error)
            continue
        wrong = bounds.trade_violation(trade, bounds.LATEST_MS)
        if wrong:
            report.reject_row(line, wrong.detail)
        elif not dump.since <= trade.time < dump.until:
            report.reject_row(line, _outside_period(trade.time))
        else:
            yield line, trade


def _outside_period(time: int) -> str:
    return f"{format_rfc3339(time)} is not in the period of the file's name"


def _parse_bar(fields: list[str]) -> Bar:
    open_, high, low, close, volume = map(_parse_amount, fields[1:6])
    return Bar(
        _parse_time(fields[0]), open_, high, low, close, volume, _parse_amount(fields[7]), _parse_integer(fields[8])
    )


def _parse_trade(dump: DataFile, fields: list[str]) -> Trade:
    """Parse a row.

    Aggregate trades: id, price, size, first and last fill, time, whether the buyer was the maker, and one more.
    Trades: id, price, size, quote size, time, whether the buyer was the maker, and one more.
    """
    number, price, amount = _parse_integer(fields[0]), _parse_amount(fields[1]), _parse_amount(fields[2])
    fills, time, maker = 1, fields[4], fields[5]
    if dump.kind is RowKind.AGGREGATE_TRADES:
        fills, time, maker = _parse_integer(fields[4]) - _parse_integer(fields[3]) + 1, fields[5], fields[6]
    at = _parse_time(time)
    return Trade(
        dump.series.exchange, dump.series.instrument, at, at, price, amount, number, fills, maker.lower() == "true"
    )


def _parse_time(text: str) -> int:
    if text.isascii() and text.isdigit():
        return to_ms(int(text[:20]))
    if "E+" in text.upper():
        raise ValueError(f"a spreadsheet has rounded the time {bounds.shorten(text)}: use the file as downloaded")
    raise ValueError(f"{bounds.shorten(text)!r} is not a time in UNIX milliseconds or microseconds")


def _parse_integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"{bounds.shorten(text)!r} is not a whole number")
    return int(text)


def _parse_amount(text: str) -> Decimal:
    try:
        amount = Decimal(text.replace("_", "?"))  # Decimal parses 1_0 as 10
    except InvalidOperation:
        raise ValueError(f"{bounds.shorten(text)!r} is not a number") from None
    if not bounds.is_amount(amount):
        raise ValueError(f"{bounds.shorten(text)!r} is not an amount")
    return amount


def _rows(dump: DataFile, report: FileReport) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of rows with their line numbers, without a header. Raises BadFile."""
    columns, empty = COLUMN_COUNTS[dump.kind], 0
    with _open_text(dump.path) as (file, _):
        for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_BYTES), b""), 1):
            report.bytes_read += len(line)
            fields = line.removeprefix(BYTE_ORDER_MARK).decode("ascii", "replace").strip().split(",")
            empty = empty + 1 if fields == [""] else 0
            if empty > MAX_EMPTY_LINES:
                raise BadFile(
                    f"line {number}: more than {MAX_EMPTY_LINES:,} empty lines in a row; download the file again"
                )
            if empty or (number == 1 and _is_header(fields)):
                continue
            if len(fields) == FUTURES_COLUMN_COUNTS.get(dump.kind):
                raise BadFile(f"these are the columns of a futures file; {SPOT_ONLY}")
            if len(fields) == columns:
                yield number, fields
            else:
                report.reject_row(number, f"{len(fields)} columns, where a row has {columns}")


def _is_header(fields: list[str]) -> bool:
    """Return whether a row is a header. Raises BadFile for the header of a futures file."""
    names = {"".join(filter(str.isalnum, field)).lower() for field in fields}
    if "".join(filter(str.isalnum, fields[0])).lower() not in FIRST_COLUMN_NAMES:
        return False
    if futures := names & FUTURES_COLUMN_NAMES:
        raise BadFile(
            f"the header is that of a futures file ({', '.join(sorted(futures))}); {SPOT_ONLY}. "
            "If it is a spot file, remove the header"
        )
    return True


@contextmanager
def _open_text(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open the unpacked text with its number of bytes. Raises BadFile for a file that cannot be read to its end."""
    try:
        if path.suffix.lower() != ".zip":
            with path.open("rb") as plain:
                yield plain, path.stat().st_size
            return
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.lower().endswith(".csv")]
            if len(members) != 1:
                raise BadFile(f"the archive must contain one CSV file, it contains {len(members)}")
            with archive.open(members[0]) as packed:
                yield packed, members[0].file_size
    except READ_ERRORS as error:
        hint = "; is the download complete?" if path.suffix.lower() == ".zip" else ""
        raise BadFile(f"it cannot be read: {error}{hint}") from None
