"""Half a minute of `make hostile`: hostile clients, messages and exchanges harm no honest client and no candle."""

from loadtest.hostile.__main__ import run
from tests.system import System

SECONDS = 30


def test_honest_client_is_served_and_candles_are_right_under_attack(shared: System) -> None:
    found = run(shared, {}, seed=7, seconds=SECONDS)
    assert found.attacks > SECONDS
    assert found.honest.received_at["WebSocket"]
    assert found.honest.received_at["event stream"]
    assert not found.failures
