"""The sliding-window rate limiter."""

from hypothesis import given
from hypothesis import strategies as st

from services.core.exchange import RateLimit
from services.core.rate_limit import SlidingWindow


@given(st.integers(1, 5), st.lists(st.floats(0, 3), max_size=60))
def test_no_window_has_more_than_its_limit_and_no_delay_is_too_long(most: int, pauses: list[float]) -> None:
    window, now, times = SlidingWindow(RateLimit(most, 1)), 0.0, list[float]()
    for pause in pauses:
        now += pause
        now += window.delay(now)
        assert window.delay(now) == 0
        window.record(now)
        times.append(now)
    for first, later in zip(times, times[most:], strict=False):
        assert later - first >= 1 - 1e-9
