"""What a client of the channel `tasks` is sent, however slowly it reads."""

from typing import Any

import msgspec

from services.api.streams.channels import Channel
from services.api.streams.encoders import WebSocketEncoder
from services.api.streams.output import MAX_BUFFERED_BYTES, ClientOutput
from services.api.streams.task_feed import TaskClient
from services.core.tasks import Task, TaskState
from services.web import DirectWriter
from tests.recording_transport import RecordingTransport

CHANNEL = Channel("tasks", (), "task_update", {})


def task(number: int, revision: int = 0, state: TaskState = TaskState.QUEUED) -> Task:
    return Task(id=str(number), name="x", state=state, due=1, created_at=1, revision=revision)


class Scene:
    """A client, and what it has been sent: the type of each message, with ids and revisions."""

    def __init__(self) -> None:
        self.connection = RecordingTransport()
        no_snapshots: Any = None
        self.client = TaskClient(ClientOutput(DirectWriter(self.connection), WebSocketEncoder(), no_snapshots), CHANNEL)

    def send(self, *tasks: Task) -> list[tuple[str, list[tuple[str, int]]]]:
        self.connection.written = b""
        self.client.send(tasks)
        frame = self.connection.written
        if not frame:
            return []
        message = msgspec.json.decode(frame[frame.index(b"{") :])
        return [(message["type"], [(each["id"], each["revision"]) for each in message["data"]["tasks"]])]


def test_the_first_message_is_a_snapshot_even_without_tasks() -> None:
    scene = Scene()
    assert scene.client.needs_snapshot
    assert scene.send() == [("snapshot", [])]
    assert not scene.client.needs_snapshot


def test_only_what_has_changed_follows() -> None:
    scene = Scene()
    assert scene.send(task(1), task(2)) == [("snapshot", [("1", 0), ("2", 0)])]
    assert scene.send(task(1), task(2)) == []
    assert scene.send(task(1), task(2, 3), task(4)) == [("task_update", [("2", 3), ("4", 0)])]


def test_a_slow_client_gets_a_snapshot_when_it_has_read_everything() -> None:
    scene = Scene()
    scene.send(task(1))
    scene.connection.unread = MAX_BUFFERED_BYTES + 1
    assert scene.send(task(1, 1)) == []
    assert not scene.client.needs_snapshot  # it cannot be sent one
    scene.connection.unread = 0
    assert scene.client.needs_snapshot
    assert scene.send(task(1, 1), task(2)) == [("snapshot", [("1", 1), ("2", 0)])]
