"""What two clocks say of each other."""

from services.core.clocks import STEP, StepDetector


def test_a_step_of_the_wall_clock_is_seen_once_and_slewing_is_none() -> None:
    detector = StepDetector(1_800_000_000_000, 5_000)
    assert detector.look(1_800_000_000_500, 5_500) == 0
    assert detector.look(1_799_996_401_000, 6_000) == -3_600_000
    assert detector.look(1_799_996_401_500, 6_500) == 0
    assert detector.offset == -3_600_000
    assert detector.look(1_799_996_402_000 + 3_600_000, 7_000) == 3_600_000
    assert detector.look(1_799_996_402_500 + 3_600_000 + STEP - 1, 7_500) == 0
    assert detector.offset == STEP - 1
