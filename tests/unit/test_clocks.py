"""What clocks say of each other: steps of ours, and how far an exchange's is from ours."""

import random

import pytest

from services.core.clocks import STEP_MS, ExchangeClock, StepDetector, WallClockOffset

WALL = 1_800_000_000_000


def test_a_step_of_the_wall_clock_is_seen_once_and_slewing_is_none() -> None:
    detector = StepDetector(WALL, 5_000)
    assert detector.update(WALL + 500, 5_500) == 0
    assert detector.update(WALL - 3_600_000 + 1_000, 6_000) == -3_600_000
    assert detector.update(WALL - 3_600_000 + 1_500, 6_500) == 0
    assert detector.offset == -3_600_000
    assert detector.update(WALL + 2_000, 7_000) == 3_600_000
    assert detector.update(WALL + 2_500 + STEP_MS - 1, 7_500) == 0
    assert detector.offset == STEP_MS - 1


def test_stamps_do_not_jitter_and_follow_a_clock_that_was_set() -> None:
    stamps = WallClockOffset(WALL, 5_000)
    assert [stamps.update(WALL + 1_000 + jitter, 6_000) for jitter in (-1, 0, 1, 60)] == [0, 0, 0, 0]
    assert stamps.wall_time(5_500) == WALL + 500
    assert stamps.update(WALL + 86_400_000, 7_000) == 86_400_000 - 2_000
    assert stamps.wall_time(7_000) == WALL + 86_400_000


@pytest.mark.parametrize("ahead", [-3_600_000, -180_000, 0, 250, 86_400_000])
def test_an_exchanges_clock_is_known_from_dates_whole_seconds_long(ahead: int) -> None:
    clock, chance = ExchangeClock(WALL), random.Random(3)
    assert not clock.is_known
    for turn in range(30):
        asked = turn * 2_300
        answered = asked + chance.randrange(20, 400)
        date = (WALL + ahead + answered - 10) // 1000 * 1000
        clock.on_response(date, 0, asked, answered)
        assert -1_000 <= clock.now(answered) - (WALL + ahead + answered) <= 0
    assert -300 <= clock.offset - (WALL + ahead) <= 0


def test_a_wrong_date_and_a_trade_of_next_year_change_nothing() -> None:
    clock = ExchangeClock(WALL)
    for turn in range(5):
        clock.on_event(WALL + turn * 2_000 - 40, turn * 2_000)
    clock.on_event(WALL + 365 * 86_400_000, 10_000)
    clock.on_response(WALL - 7_200_000, 0, 11_000, 11_100)
    assert clock.offset == WALL - 40


def test_an_answer_out_of_a_cache_says_no_more_than_it_knows() -> None:
    clock = ExchangeClock(WALL)
    clock.on_response(WALL - 30_000, 30_000, 0, 50)
    assert clock.offset == WALL - 30_050
    clock.on_response(WALL + 2_000, 0, 2_500, 2_550)
    assert clock.offset == WALL - 550


def test_an_exchange_that_sets_its_clock_is_followed_within_seconds() -> None:
    clock = ExchangeClock(WALL)
    for second in range(20):
        clock.on_event(WALL + second * 1_000 + (60_000 if second >= 10 else 0), second * 1_000)
    assert clock.offset == WALL + 60_000


def test_without_a_word_of_the_exchange_our_own_clock_is_taken() -> None:
    clock = ExchangeClock(WALL)
    clock.assume(WALL - 5_000)
    assert clock.now(1_000) == WALL - 4_000
    clock.on_event(WALL, 0)
    clock.assume(WALL + 5_000)
    assert clock.now(0) == WALL
