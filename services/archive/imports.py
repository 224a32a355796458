"""`kurs import FILE…`: candles of Binance's public files go to the writer as the exchange's klines do."""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from services.archive import dumps
from services.archive.command import Command
from services.core.model import Instrument, Kline
from services.core.routes import collected
from services.meter import Meter
from services.ports import Deps

BATCH = 500  # candles that are handed over together
QUEUE = "writer"
LOOK_SECONDS = 0.2


def command(words: Sequence[str]) -> Command:
    """What `kurs import` is to do. Wrong words end the program."""
    parser = argparse.ArgumentParser("kurs import", description=f"{__doc__} CSV or ZIP, klines or aggTrades.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="BTCUSDT-1m-2024-01.zip and such")
    return Command(partial(imported, parser.parse_args(words).files), publishes=True)


async def imported(files: Sequence[Path], deps: Deps) -> int:
    """Read the files and hand their candles over, then wait until the writer has taken them. Raises BadFile."""
    named = [dumps.named(path, _known(deps)) for path in files]  # all of them before the first is read
    for dump in named:
        count = await _handed_over(deps, dump)
        print(f"{dump.path.name}: {count} candles of {dump.series.instrument} {dump.series.timeframe}")  # noqa: T201
    await _taken(deps)
    print(f"into the {deps.hub.market} market")  # noqa: T201
    return 0


def _known(deps: Deps) -> Sequence[Instrument]:
    settings = deps.settings
    return [*settings.symbols, *collected(dumps.EXCHANGE, settings.directions, settings.assets, settings.symbols)]


async def _handed_over(deps: Deps, dump: dumps.Dump) -> int:
    count = done = 0

    def read(size: int) -> None:
        nonlocal done
        done = size

    with Meter(dump.path.name, dump.size) as meter:
        for batch in _batches(dumps.klines(dump, read, deps.clock.now())):
            await deps.bus.publish(*batch)
            count += len(batch)
            meter.at(done, f"{count} candles")
    return count


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
