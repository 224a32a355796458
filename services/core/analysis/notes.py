"""Notes: reasons to be careful with the rest of an analysis."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from services.core.analysis.candle_view import ANALYSED_CANDLES, CandleView, round_significant

SPIKE_ATRS = 4
GAP_ATRS = 2
RECENT_CANDLES = 10  # in which a gap or a spike is noted
FLAT_CANDLES = 20
FIBONACCI_CANDLES = 100


class NoteRule(NamedTuple):
    """A rule that returns a note or None."""

    name: str
    text: str
    run: Callable[[CandleView], str | None]


RULES: list[NoteRule] = []


def note(run: Callable[[CandleView], str | None]) -> Callable[[CandleView], str | None]:
    """Register a function as a rule. Its docstring is the text of the rule."""
    RULES.append(NoteRule(run.__name__, inspect.cleandoc(run.__doc__ or ""), run))
    return run


def collect_notes(view: CandleView) -> tuple[str, ...]:
    """Return the notes of all rules."""
    return tuple(text for rule in RULES if (text := rule.run(view)))


@note
def missing(view: CandleView) -> str | None:
    """Candles are missing among the last 200."""
    until = view.candle_index + 1
    times = view.indicators.columns.open_times[max(0, until - ANALYSED_CANDLES) : until]
    count = view.indicators.timeframe.count_between(int(times[0]), int(times[-1])) - len(times)
    return f"{count} candles are missing among the last {len(times) + count}" if count > 0 else None


@note
def gap(view: CandleView) -> str | None:
    """One of the last 10 candles opened at least 2 mean true ranges away from the previous close."""
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
    columns, until = view.indicators.columns, view.candle_index + 1
    span = slice(max(0, until - FLAT_CANDLES), until)
    if until < FLAT_CANDLES or np.ptp(np.concatenate([columns.high[span], columns.low[span]])) > 0:
        return None
    return f"the price has not moved within {FLAT_CANDLES} candles: rules that compare prices find nothing"


@note
def short(view: CandleView) -> str | None:
    """Fewer candles are stored than the levels are made of: 200 for support and resistance, 100 for Fibonacci."""
    count = view.candle_index + 1
    if count >= ANALYSED_CANDLES:
        return None
    names = "support, resistance and Fibonacci levels" if count < FIBONACCI_CANDLES else "support and resistance"
    return f"only {count} candles are stored for {names}"


@note
def pivots(view: CandleView) -> str | None:
    """There are no pivot points, because the first candle of their period is not stored; or some of its candles are
    missing."""
    levels = view.levels("pivots")
    if not levels:
        return "no pivot points: the first candle of their period is not stored"
    count = int(levels[0].details.get("missing", 0))
    return f"{count} candles of the period of the pivot points are missing" if count else None


def _ago(back: int) -> str:
    if not back:
        return "at the newest candle"
    return f"{back} candles before the newest" if back > 1 else "one candle before the newest"
