"""The states of a work queue's consumer, as a table."""

import pytest

from services.adapters.rabbit.consumer import ConsumerEvent, ConsumerState, transition

ONE_BY_ONE, STREAMING, LOST = ConsumerState
FETCHED_REQUEUED, FETCHED_NEW, DISCONNECTED = ConsumerEvent


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        (ONE_BY_ONE, FETCHED_REQUEUED, ONE_BY_ONE),
        (ONE_BY_ONE, FETCHED_NEW, STREAMING),
        (ONE_BY_ONE, DISCONNECTED, LOST),
        (STREAMING, FETCHED_REQUEUED, STREAMING),
        (STREAMING, FETCHED_NEW, STREAMING),
        (STREAMING, DISCONNECTED, LOST),
        (LOST, FETCHED_REQUEUED, LOST),
        (LOST, FETCHED_NEW, LOST),
        (LOST, DISCONNECTED, LOST),
    ],
)
def test_consumer_state_after_each_event(state: ConsumerState, event: ConsumerEvent, expected: ConsumerState) -> None:
    assert transition(state, event) is expected
