"""Notes: what makes one careful with all the rest."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from services.core.analysis.candle_view import ANALYSED_CANDLES, CandleView, round_significant

SPIKE_ATRS = 4  # mean true ranges
GAP_ATRS = 2
RECENT_CANDLES = 10  # candles in which a gap or a spike is told
FLAT_CANDLES = 20
FIBONACCI_CANDLES = 100  # candles that Fibonacci levels are made of


class NoteRule(NamedTuple):
    """A rule that may have something to say."""

    name: str
    text: str
    run: Callable[[CandleView], str | None]


RULES: list[NoteRule] = []


def note(run: Callable[[CandleView], str | None]) -> Callable[[CandleView], str | None]:
    """Let a function warn; its docstring is the rule."""
    RULES.append(NoteRule(run.__name__, inspect.cleandoc(run.__doc__ or ""), run))
    return run


def collect_notes(view: CandleView) -> tuple[str, ...]:
    """All of them."""
    return tuple(found for rule in RULES if (found := rule.run(view)))


@note
def missing(view: CandleView) -> str | None:
    """Candles are missing among the last 200."""
    times = view.indicators.columns.open_times[max(0, view.at - ANALYSED_CANDLES + 1) : view.at + 1]
    lost = view.indicators.timeframe.count_between(int(times[0]), int(times[-1])) - len(times)
    return f"{lost} candles are missing among the last {len(times) + lost}" if lost > 0 else None


@note
def gap(view: CandleView) -> str | None:
    """One of the last 10 candles opened at least 2 mean true ranges away from the close before it."""
    for back in range(RECENT_CANDLES):
        jump, unit = view.bar("open", back) - view.bar("close", back + 1), view.atr_or_step(back + 1)
        if abs(jump) >= GAP_ATRS * unit:
            return f"a gap of {round_significant(jump):+g}, {abs(jump) / unit:.1f} mean true ranges, {_ago(back)}"
    return None


@note
def spike(view: CandleView) -> str | None:
    """One of the last 10 candles had a range of at least 4 mean true ranges of the candles before it."""
    for back in range(RECENT_CANDLES):
        length, unit = view.bar("high", back) - view.bar("low", back), view.atr_or_step(back + 1)
        if length >= SPIKE_ATRS * unit:
            return f"a spike of {round_significant(length):g}, {length / unit:.1f} mean true ranges, {_ago(back)}"
    return None


@note
def flat(view: CandleView) -> str | None:
    """The price did not move within the last 20 candles."""
    columns, span = view.indicators.columns, slice(max(0, view.at - FLAT_CANDLES + 1), view.at + 1)
    if view.at + 1 < FLAT_CANDLES or np.ptp(np.concatenate([columns.high[span], columns.low[span]])) > 0:
        return None
    return f"the price has not moved within {FLAT_CANDLES} candles: rules that compare prices see nothing"


@note
def short(view: CandleView) -> str | None:
    """Fewer candles are kept than the levels are made of: 200 for support and resistance, 100 for Fibonacci."""
    count, most = view.at + 1, ANALYSED_CANDLES if view.at + 1 >= FIBONACCI_CANDLES else FIBONACCI_CANDLES
    if count >= ANALYSED_CANDLES:
        return None
    names = "support and resistance" if most == ANALYSED_CANDLES else "support, resistance and Fibonacci levels"
    return f"{names} are made of {count} candles only: no more are kept"


@note
def pivots(view: CandleView) -> str | None:
    """There are no pivot points, as their period is not kept from its beginning on; or some of its candles are
    missing."""
    found = view.levels("pivots")
    if not found:
        return "no pivot points: the period that they are made of is not kept from its beginning on"
    missing = int(found[0].details.get("missing", 0))
    return f"{missing} candles are missing of those that the pivot points are made of" if missing else None


def _ago(back: int) -> str:
    return f"{back} candles before the newest" if back > 1 else "one candle before the newest" if back else "just now"
