"""Notes: what makes one careful with all the rest."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from services.core.analysis.candle_view import LOOKED, At, rounded

SPIKE = 4  # mean true ranges
GAP = 2
LATELY = 10  # candles in which a gap or a spike is told
STILL = 20
RETRACED = 100  # candles that Fibonacci levels are made of


class Rule(NamedTuple):
    """A rule that may have something to say."""

    name: str
    text: str
    run: Callable[[At], str | None]


RULES: list[Rule] = []


def note(run: Callable[[At], str | None]) -> Callable[[At], str | None]:
    """Let a function warn; its docstring is the rule."""
    RULES.append(Rule(run.__name__, inspect.cleandoc(run.__doc__ or ""), run))
    return run


def notes(at: At) -> tuple[str, ...]:
    """All of them."""
    return tuple(found for rule in RULES if (found := rule.run(at)))


@note
def missing(at: At) -> str | None:
    """Candles are missing among the last 200."""
    times = at.market.columns.time[max(0, at.place - LOOKED + 1) : at.place + 1]
    lost = at.market.timeframe.expected(int(times[0]), int(times[-1])) - len(times)
    return f"{lost} candles are missing among the last {len(times) + lost}" if lost > 0 else None


@note
def gap(at: At) -> str | None:
    """One of the last 10 candles opened at least 2 mean true ranges away from the close before it."""
    for back in range(LATELY):
        jump, unit = at.bar("open", back) - at.bar("close", back + 1), at.unit(back + 1)
        if abs(jump) >= GAP * unit:
            return f"a gap of {rounded(jump):+g}, {abs(jump) / unit:.1f} mean true ranges, {_ago(back)}"
    return None


@note
def spike(at: At) -> str | None:
    """One of the last 10 candles had a range of at least 4 mean true ranges of the candles before it."""
    for back in range(LATELY):
        length, unit = at.bar("high", back) - at.bar("low", back), at.unit(back + 1)
        if length >= SPIKE * unit:
            return f"a spike of {rounded(length):g}, {length / unit:.1f} mean true ranges, {_ago(back)}"
    return None


@note
def flat(at: At) -> str | None:
    """The price did not move within the last 20 candles."""
    columns, span = at.market.columns, slice(max(0, at.place - STILL + 1), at.place + 1)
    if at.place + 1 < STILL or np.ptp(np.concatenate([columns.high[span], columns.low[span]])) > 0:
        return None
    return f"the price has not moved within {STILL} candles: rules that compare prices see nothing"


@note
def short(at: At) -> str | None:
    """Fewer candles are kept than the levels are made of: 200 for support and resistance, 100 for Fibonacci."""
    count, most = at.place + 1, LOOKED if at.place + 1 >= RETRACED else RETRACED
    if count >= LOOKED:
        return None
    names = "support and resistance" if most == LOOKED else "support, resistance and Fibonacci levels"
    return f"{names} are made of {count} candles only: no more are kept"


@note
def pivots(at: At) -> str | None:
    """There are no pivot points, as their period is not kept from its beginning on; or some of its candles are
    missing."""
    found = at.levels("pivots")
    if not found:
        return "no pivot points: the period that they are made of is not kept from its beginning on"
    missing = int(found[0].known.get("missing", 0))
    return f"{missing} candles are missing of those that the pivot points are made of" if missing else None


def _ago(back: int) -> str:
    return f"{back} candles before the newest" if back > 1 else "one candle before the newest" if back else "just now"
