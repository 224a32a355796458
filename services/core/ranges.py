"""Runs: ranges of openings, both ends inclusive, in ascending order."""

from collections.abc import Iterable, Sequence

from services.core.timeframes import Timeframe

Run = tuple[int, int]


def of(timeframe: Timeframe, openings: Iterable[int]) -> list[Run]:
    """Openings as runs."""
    return join(timeframe, ((opening, opening) for opening in sorted(openings)))


def join(timeframe: Timeframe, runs: Iterable[Run]) -> list[Run]:
    """Runs that follow one another at once are one."""
    joined: list[Run] = []
    for since, until in runs:
        if joined and timeframe.closing(joined[-1][1]) == since:
            joined[-1] = joined[-1][0], until
        else:
            joined.append((since, until))
    return joined


def without(timeframe: Timeframe, runs: Iterable[Run], known: Sequence[Run]) -> list[Run]:
    """What of the runs is not in the known ones."""
    left = list(runs)
    for since, until in known:
        left = [part for run in left for part in _cut(timeframe, run, since, until)]
    return left


def _cut(timeframe: Timeframe, run: Run, since: int, until: int) -> list[Run]:
    if until < run[0] or run[1] < since:
        return [run]
    parts = (run[0], timeframe.back(timeframe.opening(since), 1)), (timeframe.closing(timeframe.opening(until)), run[1])
    return [part for part in parts if part[0] <= part[1]]


def pages(timeframe: Timeframe, runs: Iterable[Run], most: int) -> list[Run]:
    """Runs cut into such of at most that many openings, the newest first."""
    cut = []
    for since, until in runs:
        while timeframe.expected(since, until) > most:
            cut.append((timeframe.back(until, most - 1), until))
            until = timeframe.back(until, most)  # noqa: PLW2901  what is left of the run
        cut.append((since, until))
    return sorted(cut, reverse=True)
