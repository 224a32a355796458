"""Steps of this machine's clock, and the offset of an exchange's clock."""

import random

import pytest

from services.core.clocks import STEP_MS, ExchangeClock, StepDetector, WallClockOffset

WALL = 1_800_000_000_000


def test_step_of_the_wall_clock_is_detected_once_and_slewing_is_no_step() -> None:
    detector = StepDetector(WALL, 5_000)
    assert detector.update(WALL + 500, 5_500) == 0
    assert detector.update(WALL - 3_600_000 + 1_000, 6_000) == -3_600_000
    assert detector.update(WALL - 3_600_000 + 1_500, 6_500) == 0
    assert detector.offset == -3_600_000
    assert detector.update(WALL + 2_000, 7_000) == 3_600_000
    assert detector.update(WALL + 2_500 + STEP_MS - 1, 7_500) == 0
    assert detector.offset == STEP_MS - 1


def test_wall_time_ignores_jitter_and_follows_a_clock_that_was_set() -> None:
    stamps = WallClockOffset(WALL, 5_000)
    assert [stamps.update(WALL + 1_000 + jitter, 6_000) for jitter in (-1, 0, 1, 60)] == [0, 0, 0, 0]
    assert stamps.wall_time(5_500) == WALL + 500
    assert stamps.update(WALL + 86_400_000, 7_000) == 86_400_000 - 2_000
    assert stamps.wall_time(7_000) == WALL + 86_400_000


@pytest.mark.parametrize("ahead", [-3_600_000, -180_000, 0, 250, 86_400_000])
def test_exchange_clock_is_estimated_from_dates_in_whole_seconds(ahead: int) -> None:
    clock, chance = ExchangeClock(WALL), random.Random(3)
    assert not clock.is_known
    for turn in range(30):
        requested = turn * 2_300
        responded = requested + chance.randrange(20, 400)
        date = (WALL + ahead + responded - 10) // 1000 * 1000
        clock.on_response(date, 0, requested, responded)
        assert -1_000 <= clock.now(responded) - (WALL + ahead + responded) <= 0
    assert -300 <= clock.offset - (WALL + ahead) <= 0


def test_single_wrong_date_or_trade_time_does_not_change_the_exchange_clock() -> None:
    clock = ExchangeClock(WALL)
    for turn in range(5):
        clock.on_event(WALL + turn * 2_000 - 40, turn * 2_000)
    clock.on_event(WALL + 365 * 86_400_000, 10_000)
    clock.on_response(WALL - 7_200_000, 0, 11_000, 11_100)
    assert clock.offset == WALL - 40


def test_exchange_clock_allows_for_the_age_of_a_cached_response() -> None:
    clock = ExchangeClock(WALL)
    clock.on_response(WALL - 30_000, 30_000, 0, 50)
    assert clock.offset == WALL - 30_050
    clock.on_response(WALL + 2_000, 0, 2_500, 2_550)
    assert clock.offset == WALL - 550


def test_exchange_that_sets_its_clock_is_followed_within_ten_seconds() -> None:
    clock = ExchangeClock(WALL)
    for second in range(20):
        clock.on_event(WALL + second * 1_000 + (60_000 if second >= 10 else 0), second * 1_000)
    assert clock.offset == WALL + 60_000


def test_assumed_time_is_used_only_until_the_exchange_sends_its_own() -> None:
    clock = ExchangeClock(WALL)
    clock.assume(WALL - 5_000)
    assert clock.now(1_000) == WALL - 4_000
    clock.on_event(WALL, 0)
    clock.assume(WALL + 5_000)
    assert clock.now(0) == WALL
