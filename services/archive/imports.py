"""`kurs import FILE…`: candles of Binance's public files go to the writer as the exchange's klines do."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from services.archive import binance_files, binance_rows
from services.archive.binance_files import Dump, Kind
from services.archive.binance_rows import SHOWN, Report
from services.archive.command import Command
from services.archive.file_minutes import Minutes
from services.archive.pair_resolver import Pairs
from services.core.conversion import collected
from services.core.errors import BadFile
from services.core.model import Bar, Instrument, Kline, Origin, Series
from services.ports import Deps
from services.progress_bar import Meter

BATCH = 500  # candles that are handed over together
QUEUE = "writer"
LOOK_SECONDS = 0.2


def command(words: Sequence[str]) -> Command:
    """What `kurs import` is to do. Wrong words end the program."""
    parser = argparse.ArgumentParser("kurs import", description=f"{__doc__} CSV or ZIP, klines, aggTrades or trades.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="BTCUSDT-1m-2024-01.zip and such")
    parser.add_argument(
        "--symbol",
        action="append",
        default=[],
        type=_pair,
        metavar="BASE-QUOTE",
        help="the pair of a symbol that may be split in two ways: --symbol ADA-EUR",
    )
    asked = parser.parse_args(words)
    return Command(partial(imported, asked.files, asked.symbol), publishes=True)


async def imported(files: Sequence[Path], stated: Sequence[Instrument], deps: Deps) -> int:
    """Hand the candles of files over, file by file; each is reported once the writer has taken what it holds.

    Answers 1 when something was left out. Raises BadFile, before anything is read, for a name that says too little.
    """
    exchange = next((each for each in deps.exchanges if each.name == binance_files.EXCHANGE), None)
    found = await binance_files.named(files, Pairs(exchange, stated, await _known(deps), deps.settings))
    minutes, left_out = dict[tuple[Series, Kind], Minutes](), 0
    for dump, following in zip(found, (*found[1:], None), strict=True):
        series = dump.series, dump.kind
        made = minutes.setdefault(series, Minutes())
        ends = following is None or (following.series, following.kind) != series
        left_out += await _imported(deps, dump, made, ends)
    print(f"into the {deps.hub.market} market")  # noqa: T201
    return int(left_out > 0)


async def _imported(deps: Deps, dump: Dump, minutes: Minutes, ends: bool) -> int:
    """One file; answers how much of it was left out."""
    report, count, trouble = Report(), 0, ""
    try:
        with Meter(dump.path.name, binance_rows.size(dump.path)) as meter:
            for batch in _batches(_klines(dump, minutes, report, deps.clock.now(), ends)):
                await deps.bus.publish(*batch)
                count += len(batch)
                meter.at(report.read, f"{count} candles")
    except BadFile as error:
        trouble = str(error)
        report.count += 1
        report.lines.insert(0, trouble)  # however many rows were named before it
    if not count and not report.count:
        report.add("no row is in it")
    await _taken(deps)
    told = f"{count} candles of {dump.series.instrument} {dump.series.timeframe}"
    if trouble:
        told = f"{told}, the rest left out:" if count else "refused:"
    elif report.count:
        told += f", {report.count} left out:"
    print(f"{dump.path.name}: {told}")  # noqa: T201
    for line in report.lines:
        print(f"  {line}")  # noqa: T201
    if report.count > SHOWN:
        print(f"  and {report.count - SHOWN} more")  # noqa: T201
    return report.count


def _klines(dump: Dump, minutes: Minutes, report: Report, now: int, ends: bool) -> Iterator[Kline]:
    for bar in _bars(dump, minutes, report, now, ends):
        yield Kline(dump.series, bar, Origin.IMPORT)


def _bars(dump: Dump, minutes: Minutes, report: Report, now: int, ends: bool) -> Iterator[Bar]:
    if dump.kind is Kind.KLINES:
        yield from binance_rows.bars(dump, report, now)
        return
    yield from minutes.of(dump, report)
    if ends:
        yield from minutes.last(report)


def _pair(text: str) -> Instrument:
    try:
        pair = Instrument.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if pair.contract:
        raise argparse.ArgumentTypeError(f"{text}: {binance_files.SPOT_ONLY}")
    return pair


async def _known(deps: Deps) -> Iterable[Instrument]:
    settings = deps.settings
    yours = [
        *settings.symbols,
        *collected(binance_files.EXCHANGE, settings.directions, settings.assets, settings.symbols),
    ]
    kept = [series.instrument for series in await deps.store.series() if series.exchange == binance_files.EXCHANGE]
    return [pair for pair in (*kept, *yours) if not pair.contract]


def _batches(klines: Iterator[Kline]) -> Iterator[list[Kline]]:
    while batch := list(islice(klines, BATCH)):
        yield batch


async def _taken(deps: Deps) -> None:
    """Wait until none of it waits for the writer any more."""
    waiting = total = await deps.bus.waiting(QUEUE)
    with Meter("writing", total) as meter:
        while waiting:
            meter.at(total - waiting, f"{waiting} left")
            await deps.clock.sleep(LOOK_SECONDS)
            waiting = await deps.bus.waiting(QUEUE)
            total = max(total, waiting)
