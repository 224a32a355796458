"""`kurs export SYMBOL TIMEFRAME FILE`: closed candles as CSV or Parquet, with every digit."""

import argparse
import csv
import io
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from services.command import Command
from services.core import times
from services.core.errors import BadFile, BadRange, Misconfigured, unknown_name
from services.core.markets import Market
from services.core.model import Candle, Series
from services.core.symbols import find_symbol, split_exchange
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps, Store
from services.progress_bar import ProgressBar

EXPORTED_CANDLES = 5_000  # loaded at once
COLUMNS = (
    "timestamp",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "kind",
    "source",
    "revision",
    "market",
)
AMOUNTS = COLUMNS[1:7]
DECIMAL_DIGITS, DECIMAL_PLACES = 38, 18  # of a Parquet decimal: the most that common readers support
STDOUT = Path("-")
Write = Callable[[Sequence[Candle]], None]


class _ExportArgs(NamedTuple):
    symbol: str
    timeframe: str
    file: Path
    exchange: str
    since: int | None
    until: int | None
    format: str


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs export`. Wrong ones end the program."""
    return Command(partial(run_export, _parse_args(argv)))


async def run_export(args: _ExportArgs, deps: Deps) -> int:
    """Write the candles. The file appears when it is complete, and only if there are candles.

    Raises UnknownName, BadRange, BadFile, Misconfigured.
    """
    stored = await deps.store.series()
    exchange, symbol = split_exchange(args.symbol)
    found_series = find_symbol(symbol, args.exchange or exchange, ((each.exchange, each.instrument) for each in stored))
    series = Series(*found_series, args.timeframe)
    if series not in stored:
        raise unknown_name("timeframe", args.timeframe, [each.timeframe for each in stored if each[:2] == found_series])
    first, last = stored[series]
    since = first if args.since is None else args.since
    until = last if args.until is None else args.until
    if since > until:
        raise BadRange(f"from, {times.format_rfc3339(since)}, is after to, {times.format_rfc3339(until)}")
    expected = TIMEFRAMES[series.timeframe].count_between(max(since, first), min(until, last))
    pages, count = _pages(deps.store, series, since, until), 0
    candles = await anext(pages, None)
    if candles is None:
        spans = [
            f"{times.format_rfc3339(start)} to {times.format_rfc3339(end)}"
            for start, end in ((since, until), (first, last))
        ]
        title = f"closed candle of {series.instrument} {series.timeframe}"
        raise BadRange(f"no {title} opens from {spans[0]}; there are candles from {spans[1]}")
    with (
        _atomic_write(args.file) as file,
        FORMATS[args.format](file, deps.hub.market) as write,
        ProgressBar(args.file.name, expected) as meter,
    ):
        while candles:
            write(candles)
            count += len(candles)
            meter.update(count, f"{count} candles")
            candles = await anext(pages, None)
    summary = f"{count} candles of {series.exchange} {series.instrument} {series.timeframe}, {deps.hub.market} market"
    print(f"{args.file}: {summary}", file=sys.stderr if args.file == STDOUT else sys.stdout)
    return 0


def _parse_args(argv: Sequence[str]) -> _ExportArgs:
    parser = argparse.ArgumentParser("kurs export", description=__doc__)
    parser.add_argument("symbol", help="BTC-USDT, BTCUSDT or BINANCE:BTCUSDT")
    parser.add_argument("timeframe", choices=TIMEFRAMES, metavar="timeframe", help=" ".join(TIMEFRAMES))
    parser.add_argument("file", type=Path, help="-: standard output")
    parser.add_argument("--exchange", default="", type=str.lower)
    parser.add_argument(
        "--from", dest="since", type=_time, metavar="TIME", help="UNIX time, RFC 3339, or a day, which means its start"
    )
    parser.add_argument("--to", dest="until", type=_time, metavar="TIME")
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of the file's name, otherwise csv")
    args = parser.parse_args(argv)
    ending = args.file.suffix.removeprefix(".")
    args.format = args.format or (ending if ending in FORMATS else "csv")
    return _ExportArgs(**vars(args))


def _time(text: str) -> int:
    try:
        return times.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _pages(store: Store, series: Series, since: int, until: int) -> AsyncIterator[list[Candle]]:
    """Yield closed candles in pages that are never empty."""
    while candles := await store.candles(series, since, until, EXPORTED_CANDLES):
        if closed := [candle for candle in candles if candle.closed]:
            yield closed
        since = candles[-1].bar.open_time + 1


@contextmanager
def _atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` at the end of the block. Raises BadFile."""
    try:
        if path == STDOUT:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        _require_regular_file(path)
        # The name is random, so that a link cannot be put there beforehand.
        partial_path = path.with_name(f".{secrets.token_hex(8)}.part")
        with ExitStack() as stack:
            file = stack.enter_context(partial_path.open("xb"))
            stack.callback(partial_path.unlink, missing_ok=True)
            yield file
            file.close()
            partial_path.replace(path)
    except BrokenPipeError:
        raise  # `kurs export … - | head`
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from None


def _require_regular_file(path: Path) -> None:
    """Raise BadFile for a device, a pipe or a link: the new file would replace it."""
    if path.is_dir():
        raise BadFile(f"{path} is a folder: add the name of a file")
    if path.is_symlink():
        raise BadFile(f"{path} is a link: name its target")
    if path.exists() and not path.is_file():
        raise BadFile(f"{path} is not a regular file: name another one, or write to standard output (-)")


@contextmanager
def _csv(file: BinaryIO, market: Market) -> Iterator[Write]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    try:
        yield lambda candles: rows.writerows((*_row(candle, "{:f}".format), market) for candle in candles)
    finally:
        text.detach()


@contextmanager
def _parquet(file: BinaryIO, market: Market) -> Iterator[Write]:
    try:
        import pyarrow as arrow  # noqa: PLC0415  large and optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise Misconfigured(
            "Parquet needs pyarrow, which is not installed: install kurs[parquet], in containers set "
            "KURS_EXTRAS=parquet and build the image again; or write --format csv"
        ) from None
    amount, number, text = arrow.decimal128(DECIMAL_DIGITS, DECIMAL_PLACES), arrow.int64(), arrow.string()
    kinds = {"timestamp": arrow.timestamp("ms", "UTC"), "trades": number, "revision": number}
    schema = arrow.schema([(name, amount if name in AMOUNTS else kinds.get(name, text)) for name in COLUMNS])

    def write(candles: Sequence[Candle]) -> None:
        columns = zip(*((*_row(candle, lambda value: value), market) for candle in candles), strict=True)
        try:
            arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=False)]
        except arrow.ArrowInvalid as error:
            raise BadFile(
                f"a Parquet decimal has {DECIMAL_PLACES} decimal places: {error}; write --format csv"
            ) from None
        writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))

    with parquet.ParquetWriter(file, schema) as writer:
        yield write


def _row(candle: Candle, amount: Callable[[Decimal], Any]) -> tuple[Any, ...]:
    bar = candle.bar
    amounts = (amount(getattr(bar, name)) for name in AMOUNTS)
    return bar.open_time, *amounts, bar.trades, candle.kind, str(candle.source), candle.revision


FORMATS: Mapping[str, Callable[[BinaryIO, Market], Any]] = {"csv": _csv, "parquet": _parquet}
