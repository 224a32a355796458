"""`kurs import FILE…`: publish candles of Binance's public files to the writer, as a collector does with klines."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from services.archive import binance_files, binance_rows
from services.archive.binance_files import DataFile, RowKind
from services.archive.binance_rows import MAX_SHOWN_PROBLEMS, FileReport
from services.archive.file_minutes import FileMinuteBuilder
from services.archive.pair_resolver import PairResolver
from services.command import Command
from services.core.errors import BadFile
from services.core.model import Bar, CandleSource, Instrument, Kline, Series
from services.exchanges import instruments_to_collect
from services.ports import Deps
from services.progress_bar import ProgressBar

BATCH_CANDLES = 500  # published at once
QUEUE = "writer"
POLL_SECONDS = 0.2


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs import`. Wrong ones end the program."""
    parser = argparse.ArgumentParser("kurs import", description=f"{__doc__} CSV or ZIP, klines, aggTrades or trades.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="for example BTCUSDT-1m-2024-01.zip")
    parser.add_argument(
        "--symbol",
        action="append",
        default=[],
        type=_pair_argument,
        metavar="BASE-QUOTE",
        help="the pair of an ambiguous symbol, for example --symbol ADA-EUR",
    )
    args = parser.parse_args(argv)
    return Command(partial(run_import, args.files, args.symbol), publishes=True)


async def run_import(files: Sequence[Path], stated: Sequence[Instrument], deps: Deps) -> int:
    """Import files one by one. Each is reported when the writer has saved its candles.

    Return 1 if something was left out. Raises BadFile for a wrong name, before any file is read.
    """
    exchange = next((each for each in deps.exchanges if each.name == binance_files.EXCHANGE_NAME), None)
    data_files = await binance_files.from_paths(
        files, PairResolver(exchange, stated, await _known_pairs(deps), deps.settings)
    )
    minutes, left_out = dict[tuple[Series, RowKind], FileMinuteBuilder](), 0
    for dump, following in zip(data_files, (*data_files[1:], None), strict=True):
        series = dump.series, dump.kind
        builder = minutes.setdefault(series, FileMinuteBuilder())
        ends = following is None or (following.series, following.kind) != series
        left_out += await _import_file(deps, dump, builder, ends)
    print(f"into the {deps.hub.market} market")  # noqa: T201
    return int(left_out > 0)


async def _import_file(deps: Deps, dump: DataFile, minutes: FileMinuteBuilder, ends: bool) -> int:
    """Import one file. Return how many problems it had."""
    report, count, error_text = FileReport(), 0, ""
    try:
        with ProgressBar(dump.path.name, binance_rows.text_bytes(dump.path)) as meter:
            for batch in _batches(_klines(dump, minutes, report, deps.clock.now(), ends)):
                await deps.bus.publish(*batch)
                count += len(batch)
                meter.update(report.bytes_read, f"{count} candles")
    except BadFile as error:
        error_text = str(error)
        report.problems += 1
        report.shown.insert(0, error_text)  # before the rejected rows
    if not count and not report.problems:
        report.add_problem("the file has no rows")
    await _wait_until_written(deps)
    summary = f"{count} candles of {dump.series.instrument} {dump.series.timeframe}"
    if error_text:
        summary = f"{summary}, the rest left out:" if count else "refused:"
    elif report.problems:
        summary += f", {report.problems} left out:"
    print(f"{dump.path.name}: {summary}")  # noqa: T201
    for line in report.shown:
        print(f"  {line}")  # noqa: T201
    if report.problems > MAX_SHOWN_PROBLEMS:
        print(f"  and {report.problems - MAX_SHOWN_PROBLEMS} more")  # noqa: T201
    return report.problems


def _klines(dump: DataFile, minutes: FileMinuteBuilder, report: FileReport, now: int, ends: bool) -> Iterator[Kline]:
    for bar in _bars(dump, minutes, report, now, ends):
        yield Kline(dump.series, bar, CandleSource.IMPORT)


def _bars(dump: DataFile, minutes: FileMinuteBuilder, report: FileReport, now: int, ends: bool) -> Iterator[Bar]:
    if dump.kind is RowKind.KLINES:
        yield from binance_rows.bars(dump, report, now)
        return
    yield from minutes.add_file(dump, report)
    if ends:
        yield from minutes.finish(report)


def _pair_argument(text: str) -> Instrument:
    try:
        pair = Instrument.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if pair.contract:
        raise argparse.ArgumentTypeError(f"{text}: {binance_files.SPOT_ONLY}")
    return pair


async def _known_pairs(deps: Deps) -> Iterable[Instrument]:
    settings = deps.settings
    configured = [
        *settings.symbols,
        *instruments_to_collect(binance_files.EXCHANGE_NAME, settings),
    ]
    stored = [
        series.instrument for series in await deps.store.series() if series.exchange == binance_files.EXCHANGE_NAME
    ]
    return [pair for pair in (*stored, *configured) if not pair.contract]


def _batches(klines: Iterator[Kline]) -> Iterator[list[Kline]]:
    while batch := list(islice(klines, BATCH_CANDLES)):
        yield batch


async def _wait_until_written(deps: Deps) -> None:
    """Wait until the writer's queue is empty."""
    waiting = total = await deps.bus.queue_depth(QUEUE)
    with ProgressBar("writing", total) as meter:
        while waiting:
            meter.update(total - waiting, f"{waiting} left")
            await deps.clock.sleep(POLL_SECONDS)
            waiting = await deps.bus.queue_depth(QUEUE)
            total = max(total, waiting)
