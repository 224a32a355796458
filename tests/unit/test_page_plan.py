"""The plan which pages of an indicator are read from the cache, computed, and cached."""

import numpy as np

from services.api.indicators.output_columns import OutputColumns
from services.api.indicators.page_plan import PagePlan
from services.core.indicators import parse_specs

(SMA,) = parse_specs("sma:20")
PAGE = 500


def outputs(first: int, end: int, trusted_from: int | None = None) -> OutputColumns:
    """Return values at the times [first, end), each equal to its time."""
    times = np.arange(first, end, dtype=np.int64)
    return OutputColumns(times, {"sma": times.astype(np.float64)}, trusted_from)


def plan(*cached: int, starts: tuple[int, ...] = (0, 500), first: int = 100, last: int = 1100) -> PagePlan:
    return PagePlan.make(SMA, (first, last), starts, {(SMA, at): outputs(at, at + PAGE) for at in cached}, PAGE)


def test_plan_of_the_docstrings_example() -> None:
    made = plan(0)
    assert [page.open_times[0] for page in made.cached] == [0]
    assert (made.missing, made.since, made.until, made.needs_computing) == ([500], 500, 1100, True)
    computed = outputs(500, 1101, trusted_from=510)
    ((key, page),) = made.new_pages(computed)
    assert key == (SMA, 500)
    assert page.open_times.tolist() == list(range(500, 1000))
    whole = made.outputs(computed)
    assert whole.open_times.tolist() == whole.values["sma"].tolist() == list(range(100, 1101))
    assert whole.trusted_from == 510


def test_everything_from_the_first_missing_page_on_is_computed() -> None:
    made = plan(500)
    assert (made.cached, made.missing, made.since) == ([], [0], 0)
    assert [key for key, _ in made.new_pages(outputs(0, 1101))] == [(SMA, 0)]


def test_only_candles_after_cached_final_pages_are_computed() -> None:
    made = plan(0, 500)
    assert (len(made.cached), made.missing, made.since, made.until) == (2, [], 1000, 1100)
    assert made.outputs(outputs(1000, 1101)).open_times.tolist() == list(range(100, 1101))


def test_nothing_is_computed_for_a_range_within_cached_pages() -> None:
    made = plan(0, 500, last=900)
    assert not made.needs_computing
    assert made.outputs(None).open_times.tolist() == list(range(100, 901))


def test_last_page_is_computed_to_its_end_although_the_range_ends_before() -> None:
    made = plan(last=700)
    assert (made.missing, made.since, made.until) == ([0, 500], 0, 999)


def test_range_without_a_final_page_is_computed_from_its_first_candle_on() -> None:
    made = plan(starts=(), first=1050)
    assert (made.cached, made.missing, made.since, made.until) == ([], [], 1050, 1100)
