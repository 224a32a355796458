"""Silence is judged by each instrument's own rhythm."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.silence import LEARNING_PAUSE_MS, MAX_PAUSE_MS, SilenceDetector


def rhythm_after(
    pauses: list[int], start: int = 0, rhythm: SilenceDetector | None = None
) -> tuple[SilenceDetector, int, int]:
    """A rhythm after these pauses, the time then, and how often it was taken for silent on the way."""
    now, false = start, 0
    rhythm = (rhythm or SilenceDetector()).after_message(now)
    for pause in pauses:
        now += pause
        false += rhythm.is_silent(now)
        rhythm = rhythm.after_message(now)
    return rhythm, now, false


def poisson(mean: float, count: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [int(chance.expovariate(1 / mean)) for _ in range(count)]


def silence_noticed_after(rhythm: SilenceDetector, now: int) -> int:
    """After how many ms of quiet it is called silent."""
    return next(quiet for quiet in range(0, int(MAX_PAUSE_MS) + 101, 100) if rhythm.is_silent(now + quiet))


@pytest.mark.parametrize("mean", [5, 50, 200])
def test_a_lively_instrument_is_missed_within_four_seconds(mean: float) -> None:
    rhythm, now, false = rhythm_after(poisson(mean, int(60_000 / mean)))
    assert false == 0
    assert 3_000 <= silence_noticed_after(rhythm, now) <= 4_000


def test_regular_feed_of_one_a_second_is_silent_after_four_seconds() -> None:
    rhythm, now, false = rhythm_after([1_000] * 60)
    assert false == 0
    assert silence_noticed_after(rhythm, now) <= 4_000


@pytest.mark.parametrize("mean", [1_000, 10_000, 30_000])
def test_a_slow_one_is_not_taken_for_dead(mean: float) -> None:
    rhythm, now, false = rhythm_after(poisson(mean, 2_000))
    assert false <= 4
    assert 3 * mean <= silence_noticed_after(rhythm, now) <= 30 * mean


def test_bursts_with_long_pauses_are_a_rhythm_too() -> None:
    rhythm, now, false = rhythm_after(([10] * 100 + [20_000]) * 30)
    assert false <= 2, "only before the first pauses are known"
    assert 25_000 <= silence_noticed_after(rhythm, now) <= 120_000


def test_a_silence_teaches_little() -> None:
    rhythm, now, _ = rhythm_after([100] * 600)
    before = silence_noticed_after(rhythm, now)
    muted, now, _ = rhythm_after([100] * 50, now + 300_000, rhythm)
    assert silence_noticed_after(muted, now) <= 1.6 * before


def test_feed_that_slows_down_for_good_is_relearned() -> None:
    rhythm, now, _ = rhythm_after([100] * 600)
    _, _, false = rhythm_after([8_000] * 60, now + 8_000, rhythm)
    assert false <= 20


def test_nothing_heard_is_not_silence() -> None:
    assert not SilenceDetector().is_silent(10**12)


@given(st.lists(st.integers(0, 10**7), max_size=60), st.integers(0, 10**7))
def test_always_bounded_and_once_silent_silent_until_heard(pauses: list[int], quiet: int) -> None:
    rhythm, now, _ = rhythm_after(pauses)
    assert rhythm.floor <= rhythm.allowed_pause <= max(MAX_PAUSE_MS, LEARNING_PAUSE_MS)
    looks = [rhythm.is_silent(now + quiet + later) for later in range(0, 20_000, 1_000)]
    assert all(second or not first for first, second in pairwise(looks))
    assert not rhythm.after_message(now + quiet).is_silent(now + quiet)
