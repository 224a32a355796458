"""Limits hold in every window, not only on average."""

from hypothesis import given
from hypothesis import strategies as st

from services.core.exchange import Limit
from services.core.rate_limit import Window


@given(st.integers(1, 5), st.lists(st.floats(0, 3), max_size=60))
def test_never_more_in_any_window_and_never_longer_than_needed(most: int, pauses: list[float]) -> None:
    window, now, times = Window(Limit(most, 1)), 0.0, list[float]()
    for pause in pauses:
        now += pause
        now += window.wait(now)
        assert window.wait(now) == 0
        window.note(now)
        times.append(now)
    for first, later in zip(times, times[most:], strict=False):
        assert later - first >= 1 - 1e-9
