"""`kurs verify [SYMBOL | audit]`: check that every sealed day still matches its seal, and that the audit log is as it
was written. Of each chain, the first mismatch is printed.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial

from services.archive.audit_verification import verify_audit_log
from services.command import Command
from services.core import times
from services.core.coverage import SeriesCoverage
from services.core.model import Series
from services.core.seals import GENESIS, Seal, digest
from services.core.symbols import find_symbol, split_exchange
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.ports import Deps, Store
from services.progress_bar import ProgressBar

AUDIT = "audit"
TIMEFRAME_ORDER = list(TIMEFRAMES)
MAX_SHOWN_DAYS = 5  # days with missing candles that are printed one by one


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs verify`. Wrong ones end the program."""
    parser = argparse.ArgumentParser("kurs verify", description=__doc__)
    parser.add_argument("symbol", nargs="?", help="BTC-USDT, BTCUSDT or BINANCE:BTCUSDT; audit; default: all")
    return Command(partial(run_verify, parser.parse_args(argv).symbol))


async def run_verify(name: str | None, deps: Deps) -> int:
    """Check the chains of all series and the audit log, or one of these. Return 1 if one is broken.

    Raises UnknownName.
    """
    if name == AUDIT:
        return 1 if await verify_audit_log(deps.accounts) else 0
    broken_audit_log = not name and await verify_audit_log(deps.accounts, optional=True)
    stored = sorted(
        await deps.store.series(), key=lambda s: (s.exchange, s.instrument, TIMEFRAME_ORDER.index(s.timeframe))
    )
    if name:
        exchange, symbol = split_exchange(name)
        pair_of_exchange = find_symbol(symbol, exchange, ((series.exchange, series.instrument) for series in stored))
        stored = [series for series in stored if series[:2] == pair_of_exchange]
    days = broken = missing = 0
    for series in stored:
        seals = await deps.store.seals(series, 0, times.FAR_FUTURE)
        fault, coverage = await first_mismatch(deps.store, series, seals), await _coverage(deps.store, series)
        days, broken, missing = days + len(seals), broken + bool(fault), missing + coverage.expected - coverage.present
        result = f"{_days_text(len(seals))} as sealed" if seals else "no day is sealed, none was looked at"
        print(f"{_series_title(series)}: {fault or result}; {coverage.present} of {coverage.expected} candles")  # noqa: T201
        incomplete = _incomplete_days(coverage, {seal.day: seal.candles for seal in seals})
        for line in incomplete[:MAX_SHOWN_DAYS]:
            print(f"  {line}")  # noqa: T201
        if len(incomplete) > MAX_SHOWN_DAYS:
            print(f"  and {_days_text(len(incomplete) - MAX_SHOWN_DAYS)} more like these")  # noqa: T201
    print(  # noqa: T201
        f"{deps.hub.market} market: {len(stored)} series, {_days_text(days)}, {broken} broken, "
        f"{missing} candles missing"
    )
    return 1 if broken or broken_audit_log else 0


async def _coverage(store: Store, series: Series) -> SeriesCoverage:
    """Return the coverage from the first to the last closed candle, as the API counts it."""
    first, last = await _first_and_last(store, series)
    return await store.coverage(series, first, last)


async def _first_and_last(store: Store, series: Series) -> tuple[int, int]:
    oldest = await store.candles(series, 0, times.FAR_FUTURE, 1, forming_since=times.FAR_FUTURE)
    newest = await store.latest_candles(series, times.FAR_FUTURE, 1, forming_since=times.FAR_FUTURE)
    return (oldest[0].bar.open_time, newest[-1].bar.open_time) if oldest else (0, -1)


def _incomplete_days(coverage: SeriesCoverage, sealed: Mapping[int, int]) -> list[str]:
    """Return a line for each day with missing candles. `sealed`: the number of sealed candles of each day."""
    timeframe, missing = TIMEFRAMES[coverage.series.timeframe], dict[int, int]()
    for since, until in coverage.missing:
        for day in range(since // DAY_MS * DAY_MS, until + 1, DAY_MS):
            count = timeframe.count_between(max(day, since), min(day + DAY_MS - 1, until))
            missing[day] = missing.get(day, 0) + count
    lines = list[str]()
    for day, count in missing.items():
        if expected := timeframe.count_between(day, day + DAY_MS - 1) if count else 0:
            state = "sealed so: the exchange has no others" if sealed.get(day) == expected - count else "not sealed"
            lines.append(f"{times.format_rfc3339(day)[:10]}: {expected - count} of {expected} candles, {state}")
    return lines


def _days_text(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"


async def first_mismatch(store: Store, series: Series, seals: Sequence[Seal]) -> str:
    """Return what is wrong with the first day that does not match its seal, "" if all match."""
    previous = GENESIS
    with ProgressBar(_series_title(series), len(seals)) as meter:
        for number, seal in enumerate(seals):
            candles = [
                candle for candle in await store.candles(series, seal.day, seal.day + DAY_MS - 1) if candle.closed
            ]
            day = times.format_rfc3339(seal.day)[:10]
            if len(candles) != seal.candles:
                return f"{day}: {len(candles)} candles, sealed were {seal.candles}"
            if digest(seal.previous, candles) != seal.digest:
                return f"{day}: a candle is not as it was sealed at {times.format_rfc3339(seal.created_at)}"
            if seal.previous != previous:
                return f"{day}: its seal is not chained to the day before: a seal was changed or is missing"
            previous = seal.digest
            meter.update(number + 1, day)
    return ""


def _series_title(series: Series) -> str:
    return f"{series.exchange} {series.instrument} {series.timeframe}"
