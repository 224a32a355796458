"""The analyst's window of a series: its state machine as a table, and the range of outdated rows."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from msgspec.structs import replace

from services.analyst.series_window import (
    RELOAD_MAX_DELAY_MS,
    RELOAD_QUIET_MS,
    VERIFIED_CANDLES,
    DirtyRange,
    SeriesWindow,
    WindowEvent,
    WindowState,
    next_state,
)
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import MINUTE_MS

SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
START = 1_800_000_000_000 // MINUTE_MS * MINUTE_MS
CLEAN, DIRTY, RELOAD, LOADING = WindowState
TABLE = {
    # event: the state after it in CLEAN, DIRTY, RELOAD, LOADING; None: it cannot happen there
    WindowEvent.OUTDATED: (DIRTY, DIRTY, RELOAD, RELOAD),
    WindowEvent.CONFLICT: (RELOAD, RELOAD, RELOAD, RELOAD),
    WindowEvent.LOAD_STARTED: (None, None, LOADING, None),
    WindowEvent.LOAD_FAILED: (None, None, RELOAD, RELOAD),
    WindowEvent.LOADED_CLEAN: (None, None, None, CLEAN),
    WindowEvent.LOADED_DIRTY: (None, None, None, DIRTY),
    WindowEvent.TAKEN: (CLEAN, CLEAN, RELOAD, None),
}


def candle(index: int, close: int = 100, *, closed: bool = True) -> Candle:
    price = Decimal(close)
    bar = Bar(START + index * MINUTE_MS, price, price, price, price, Decimal(1), Decimal(1), 1)
    return Candle(SERIES, bar, closed, CandleSource.EXCHANGE)


def loaded(candles: Sequence[Candle]) -> SeriesWindow:
    """A window that has read these candles and saved their rows."""
    window = SeriesWindow(SERIES)
    reload(window, candles)
    with window.recomputing():
        pass
    return window


def reload(window: SeriesWindow, candles: Sequence[Candle]) -> None:
    with window.reloading():
        window.finish_reload(candles, 0)


@pytest.mark.parametrize("event", WindowEvent)
@pytest.mark.parametrize("state", WindowState)
def test_window_state_after_each_event(state: WindowState, event: WindowEvent) -> None:
    expected = dict(zip(WindowState, TABLE[event], strict=True))[state]
    if expected is None:
        with pytest.raises(ValueError, match="cannot happen"):
            next_state(state, event)
    else:
        assert next_state(state, event) is expected


def test_first_reload_marks_the_newest_rows_and_deletes_none() -> None:
    window = SeriesWindow(SERIES)
    assert window.should_reload(RELOAD_QUIET_MS)
    reload(window, [candle(index) for index in range(300)])
    assert (window.state, window.dirty) == (DIRTY, DirtyRange(START + (300 - VERIFIED_CANDLES) * MINUTE_MS))


def test_reload_of_an_empty_store_leaves_nothing_to_do() -> None:
    window = SeriesWindow(SERIES)
    reload(window, [])
    assert (window.state, window.dirty) == (CLEAN, None)


def test_candle_that_follows_is_appended_and_its_rows_are_outdated() -> None:
    window = loaded([candle(0), candle(1)])
    window.on_candle(candle(2), 0)
    assert (window.state, window.dirty) == (DIRTY, DirtyRange(START + 2 * MINUTE_MS))
    assert len(window.closed.open_times) == 3
    window.on_candle(candle(2), 0)  # the same candle again changes nothing
    assert len(window.closed.open_times) == 3


@pytest.mark.parametrize("other", [candle(1, 101), candle(3), candle(-1)])
def test_candle_that_does_not_follow_requests_a_reload(other: Candle) -> None:
    window = loaded([candle(0), candle(1)])
    window.on_candle(other, RELOAD_MAX_DELAY_MS - 1)
    assert window.state is RELOAD
    assert not window.should_reload(RELOAD_MAX_DELAY_MS - 1)
    assert window.should_reload(RELOAD_MAX_DELAY_MS), "further changes do not delay it any longer"
    assert loaded([candle(0), candle(1)]).state is CLEAN


def test_correction_deletes_rows_that_are_too_old_to_be_computed() -> None:
    candles = [candle(index) for index in range(300)]
    window = loaded(candles)
    window.request_reload()
    candles[50] = candle(50, 101)
    reload(window, candles)
    oldest_verified = START + (300 - VERIFIED_CANDLES) * MINUTE_MS
    assert window.dirty == DirtyRange(oldest_verified, START + 50 * MINUTE_MS)


@pytest.mark.parametrize("arriving", [candle(2), candle(0, 101)])
def test_candle_that_arrives_during_a_reload_makes_it_start_again(arriving: Candle) -> None:
    window = loaded([candle(0), candle(1)])
    window.request_reload()
    with window.reloading():
        window.on_candle(arriving, 0)
        window.finish_reload([candle(0), candle(1), candle(2), candle(3)], 0)
    assert window.state is RELOAD
    assert len(window.closed.open_times) < 4, "the loaded candles are dropped"


def test_failed_reload_stays_requested() -> None:
    window = loaded([candle(0)])
    window.request_reload()
    with pytest.raises(OSError, match="unavailable"), window.reloading():
        raise OSError("unavailable")
    assert window.state is RELOAD


def test_range_of_a_failed_computation_is_merged_with_later_changes() -> None:
    window = loaded([candle(0)])
    window.on_candle(candle(1), 0)

    def fail_after_another_candle() -> None:
        with window.recomputing() as dirty:
            assert dirty == DirtyRange(START + MINUTE_MS)
            assert (window.state, window.dirty) == (CLEAN, None)
            window.on_candle(candle(2), 0)
            raise OSError("unavailable")

    with pytest.raises(OSError, match="unavailable"):
        fail_after_another_candle()
    assert (window.state, window.dirty) == (DIRTY, DirtyRange(START + MINUTE_MS))


def test_dirty_range_survives_a_reload() -> None:
    window = loaded([candle(0)])
    window.on_candle(candle(1), 0)
    window.request_reload()
    reload(window, [candle(0), candle(1)])
    assert (window.state, window.dirty) == (DIRTY, DirtyRange(START + MINUTE_MS))


@pytest.mark.parametrize(
    ("one", "other", "union"),
    [
        (DirtyRange(5), None, DirtyRange(5)),
        (DirtyRange(5), DirtyRange(3), DirtyRange(3)),
        (DirtyRange(5, 1), DirtyRange(3), DirtyRange(3, 1)),
        (DirtyRange(5), DirtyRange(7, 0), DirtyRange(5, 0)),
        (DirtyRange(5, 2), DirtyRange(7, 1), DirtyRange(5, 1)),
    ],
)
def test_union_of_dirty_ranges_covers_both(one: DirtyRange, other: DirtyRange | None, union: DirtyRange) -> None:
    assert one.union(other) == union


def test_changed_days_outdate_the_levels_of_all_rows() -> None:
    window = loaded([candle(0), candle(1)])
    window.set_daily([candle(0)])
    assert window.state is CLEAN, "the first days are no change"
    window.set_daily([replace(candle(0), bar=replace(candle(0).bar, high=Decimal(200)))])
    assert (window.state, window.dirty) == (DIRTY, DirtyRange(START))


def test_forming_candle_follows_only_the_last_closed_one() -> None:
    window = loaded([candle(0), candle(1)])
    window.on_candle(candle(2, closed=False), 0)
    assert (window.forming_dirty, window.forming_follows) == (True, True)
    window.on_candle(candle(3, closed=False), 0)
    assert not window.forming_follows
