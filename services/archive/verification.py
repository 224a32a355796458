"""`kurs verify [SYMBOL]`: does every closed day still hash to its seal? The first one that does not is named."""

import argparse
from collections.abc import Sequence
from functools import partial

from services.archive.command import Command
from services.core import times
from services.core.model import Series
from services.core.seals import GENESIS, Seal, digest
from services.core.symbols import find, split
from services.core.timeframes import DAY, TIMEFRAMES
from services.meter import Meter
from services.ports import Deps, Store

FOREVER = 2**62
ORDER = list(TIMEFRAMES)


def command(words: Sequence[str]) -> Command:
    """What `kurs verify` is to do. Wrong words end the program."""
    parser = argparse.ArgumentParser("kurs verify", description=__doc__)
    parser.add_argument("symbol", nargs="?", help="BTC-USDT, BTCUSDT or BINANCE:BTCUSDT; without it all")
    return Command(partial(verified, parser.parse_args(words).symbol))


async def verified(name: str | None, deps: Deps) -> int:
    """Check the chains of all series, or of a symbol's; 1 when one is broken. Raises UnknownName."""
    kept = sorted(await deps.store.series(), key=lambda s: (s.exchange, s.instrument, ORDER.index(s.timeframe)))
    if name:
        exchange, symbol = split(name)
        place = find(symbol, exchange, ((series.exchange, series.instrument) for series in kept))
        kept = [series for series in kept if series[:2] == place]
    days = broken = 0
    for series in kept:
        seals = await deps.store.seals(series, 0, FOREVER)
        fault = await fault_in(deps.store, series, seals)
        days, broken = days + len(seals), broken + bool(fault)
        well = f"{len(seals)} days as sealed" if seals else "no day is sealed, none was looked at"
        print(f"{_titled(series)}: {fault or well}")  # noqa: T201  this is the answer
    print(f"{deps.hub.market} market: {len(kept)} series, {days} days, {broken} broken")  # noqa: T201
    return 1 if broken else 0


async def fault_in(store: Store, series: Series, seals: Sequence[Seal]) -> str:
    """What is wrong with the first day that does not match its seal, for a person to read; "" when all do."""
    previous = GENESIS
    with Meter(_titled(series), len(seals)) as meter:
        for number, seal in enumerate(seals):
            candles = [candle for candle in await store.candles(series, seal.day, seal.day + DAY - 1) if candle.closed]
            day = times.written(seal.day)[:10]
            if len(candles) != seal.candles:
                return f"{day}: {len(candles)} candles, sealed were {seal.candles}"
            if digest(seal.previous, candles) != seal.digest:
                return f"{day}: a candle is not as it was sealed at {times.written(seal.made)}"
            if seal.previous != previous:
                return f"{day}: its seal is not chained to the day before: a seal was changed or is missing"
            previous = seal.digest
            meter.at(number + 1, day)
    return ""


def _titled(series: Series) -> str:
    return f"{series.exchange} {series.instrument} {series.timeframe}"
