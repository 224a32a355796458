"""Some seconds of `make hostile`: clients, messages and exchanges mean harm, and nobody else is the worse for it."""

from loadtest.hostile.__main__ import run
from tests.system import System

SECONDS = 30


def test_the_honest_are_served_and_no_candle_is_wrong_among_the_hostile(shared: System) -> None:
    found = run(shared, {}, seed=7, seconds=SECONDS)
    assert found.attacks > SECONDS
    assert found.honest.received_at["WebSocket"]
    assert found.honest.received_at["event stream"]
    assert not found.failures
