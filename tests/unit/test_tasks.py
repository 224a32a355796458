"""What is decided about a task: its states, its pauses, and when its worker is lost."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.accounts.registry import find_tasks
from services.core.tasks import (
    FINISHED_STATES,
    MAX_RETRY_MS,
    LeaseWatch,
    RunningTask,
    TaskEvent,
    TaskState,
    event_without_success,
    next_state,
    retry_delay_ms,
    slot_of,
)

S, E = TaskState, TaskEvent
# By state, the events that change it. Every other event leaves it.
CHANGES = {
    S.SCHEDULED: {E.DUE: S.QUEUED, E.CANCELLED: S.CANCELLED},
    S.QUEUED: {E.CLAIMED: S.RUNNING, E.CANCELLED: S.CANCELLED},
    S.RUNNING: {
        E.SUCCEEDED: S.SUCCEEDED,
        E.RETRIED: S.SCHEDULED,
        E.FAILED: S.FAILED,
        E.RELEASED: S.QUEUED,
        E.LOST: S.QUEUED,
        E.CANCELLED: S.CANCELLED,
    },
    S.SUCCEEDED: {},
    S.FAILED: {E.REPLAYED: S.QUEUED},
    S.CANCELLED: {},
}


@pytest.mark.parametrize("state", TaskState)
def test_each_event_changes_exactly_the_states_of_the_table(state: TaskState) -> None:
    assert {event: next_state(state, event) for event in TaskEvent} == dict.fromkeys(TaskEvent, state) | CHANGES[state]


def test_only_a_replay_leads_out_of_a_finished_state() -> None:
    left = {(state, event) for state in FINISHED_STATES for event in TaskEvent if next_state(state, event) != state}
    assert left == {(TaskState.FAILED, TaskEvent.REPLAYED)}


@pytest.mark.parametrize(
    ("attempt", "cancel_requested", "event"),
    [(1, False, E.RETRIED), (2, False, E.RETRIED), (3, False, E.FAILED), (4, False, E.FAILED), (1, True, E.CANCELLED)],
)
def test_attempt_without_success_is_followed_by_another_up_to_the_last(
    attempt: int, cancel_requested: bool, event: TaskEvent
) -> None:
    assert event_without_success(attempt, 3, cancel_requested=cancel_requested) is event


def test_pauses_between_attempts_grow_to_ten_minutes() -> None:
    assert [retry_delay_ms(attempt, 0) for attempt in range(1, 8)] == [
        *(2_000, 8_000, 32_000, 128_000, 512_000),
        *(600_000, 600_000),
    ]
    assert retry_delay_ms(10**9, 1) == MAX_RETRY_MS // 2


def test_slot_begins_at_each_multiple_of_its_interval() -> None:
    assert {slot_of("poll", 45_000, now) for now in range(90_000, 135_000, 1_000)} == {"poll@90000"}
    assert slot_of("poll", 45_000, 135_000) == "poll@135000"


def running(task_id: str, attempt: int = 1, heartbeat: int = 0) -> RunningTask:
    return RunningTask(id=task_id, name="x", attempt=attempt, worker="w", heartbeat=heartbeat, cancel_requested=False)


def test_worker_without_a_sign_of_life_is_lost_after_enough_looks() -> None:
    watch = LeaseWatch(3)
    assert [watch.look([running("a")]) for _ in range(4)] == [[], [], [], [running("a")]]
    assert watch.look([running("a", heartbeat=1)]) == []  # it lives after all
    assert watch.look([]) == []
    assert watch.look([running("a", heartbeat=1)]) == []  # looks begin again


@given(st.lists(st.integers(0, 3), min_size=5, max_size=60))
def test_worker_that_renews_often_enough_is_never_lost(pauses: list[int]) -> None:
    """It renews after at most 3 looks, and 4 would be needed."""
    watch = LeaseWatch(4)
    for heartbeat, pause in enumerate(pauses):
        for _ in range(pause + 1):
            assert watch.look([running("a", heartbeat=heartbeat)]) == []


def test_every_task_that_is_added_by_name_exists() -> None:
    """Services that add tasks cannot import their functions."""
    sources = [path.read_text() for path in (Path(__file__).parents[2] / "services").rglob("*.py")]
    names = {name for source in sources for name in re.findall(r'NewTask\(\s*name="(\w+)"', source)}
    assert names
    assert names <= find_tasks().keys()
