"""The silence detector learns how long an instrument usually pauses."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.silence import LEARNING_PAUSE_MS, MAX_PAUSE_MS, SilenceDetector


def detector_after(
    pauses: list[int], start: int = 0, detector: SilenceDetector | None = None
) -> tuple[SilenceDetector, int, int]:
    """Return a detector after these pauses, the time then, and how often it reported silence on the way."""
    now, false = start, 0
    detector = (detector or SilenceDetector()).after_message(now)
    for pause in pauses:
        now += pause
        false += detector.is_silent(now)
        detector = detector.after_message(now)
    return detector, now, false


def poisson(mean: float, count: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [int(chance.expovariate(1 / mean)) for _ in range(count)]


def ms_until_silent(detector: SilenceDetector, now: int) -> int:
    """Return after how many ms without a message the detector reports silence."""
    return next(quiet for quiet in range(0, int(MAX_PAUSE_MS) + 101, 100) if detector.is_silent(now + quiet))


@pytest.mark.parametrize("mean", [5, 50, 200])
def test_busy_instrument_is_silent_after_three_to_four_seconds(mean: float) -> None:
    detector, now, false = detector_after(poisson(mean, int(60_000 / mean)))
    assert false == 0
    assert 3_000 <= ms_until_silent(detector, now) <= 4_000


def test_instrument_with_a_message_a_second_is_silent_within_four_seconds() -> None:
    detector, now, false = detector_after([1_000] * 60)
    assert false == 0
    assert ms_until_silent(detector, now) <= 4_000


@pytest.mark.parametrize("mean", [1_000, 10_000, 30_000])
def test_slow_instrument_is_silent_only_after_several_mean_pauses(mean: float) -> None:
    detector, now, false = detector_after(poisson(mean, 2_000))
    assert false <= 4
    assert 3 * mean <= ms_until_silent(detector, now) <= 30 * mean


def test_instrument_with_bursts_is_silent_only_after_more_than_its_pause() -> None:
    detector, now, false = detector_after(([10] * 100 + [20_000]) * 30)
    assert false <= 2, "only before the first pauses are known"
    assert 25_000 <= ms_until_silent(detector, now) <= 120_000


def test_single_long_silence_hardly_lengthens_the_allowed_pause() -> None:
    detector, now, _ = detector_after([100] * 600)
    before = ms_until_silent(detector, now)
    muted, now, _ = detector_after([100] * 50, now + 300_000, detector)
    assert ms_until_silent(muted, now) <= 1.6 * before


def test_detector_adapts_to_a_feed_that_slows_down_for_good() -> None:
    detector, now, _ = detector_after([100] * 600)
    _, _, false = detector_after([8_000] * 60, now + 8_000, detector)
    assert false <= 20


def test_detector_without_a_message_reports_no_silence() -> None:
    assert not SilenceDetector().is_silent(10**12)


@given(st.lists(st.integers(0, 10**7), max_size=60), st.integers(0, 10**7))
def test_allowed_pause_is_bounded_and_silence_lasts_until_the_next_message(pauses: list[int], quiet: int) -> None:
    detector, now, _ = detector_after(pauses)
    assert detector.floor <= detector.allowed_pause <= max(MAX_PAUSE_MS, LEARNING_PAUSE_MS)
    checks = [detector.is_silent(now + quiet + later) for later in range(0, 20_000, 1_000)]
    assert all(second or not first for first, second in pairwise(checks))
    assert not detector.after_message(now + quiet).is_silent(now + quiet)
