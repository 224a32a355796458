"""Tasks over HTTP and on the command line: a person's own, and all for an admin and the operator."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from services.command_line import parse_command, run_command
from services.core.errors import Conflict, UnknownName
from services.core.tasks import AttemptEnd, NewTask, Task, TaskEvent, TaskFilter
from services.core.timeframes import DAY_MS
from services.settings import Settings
from tests.people import NOW, PeopleReplica, people_system

FAILED = AttemptEnd(event=TaskEvent.FAILED, error="ValueError: no")


class World(NamedTuple):
    """A replica, and the access tokens of ann (with four tasks), bob (with one) and an admin."""

    replica: PeopleReplica
    ann: str
    bob: str
    root: str
    tasks: list[Task]  # ann's, then bob's, then one of Kurs's own

    async def get(self, token: str, path: str = "", **query: Any) -> Any:
        response = await self.replica.request("GET", f"/v1/tasks{path}", token, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def numbers(self, token: str, **query: Any) -> list[int]:
        ids = [task.id for task in self.tasks]
        return [ids.index(task["id"]) for task in (await self.get(token, **query))["tasks"]]


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with people_system(database) as system:
        replica = system.replica()
        ann, bob = await replica.access("ann"), await replica.access("bob")
        await replica.register("root")
        await replica.promote("root")
        root = (await replica.sign_in("root"))["access_token"]
        owners = [*[(await replica.person("ann")).id] * 4, (await replica.person("bob")).id, None]
        async with replica.store.transaction() as tx:
            for task in await tx.tasks.find(TaskFilter(), 99):  # of the registrations
                await tx.tasks.cancel(task.id, NOW - 100 * DAY_MS)
            await tx.tasks.delete_finished(NOW, 99)
            names = ["a", "b", "a", "b", "a", "a"]
            tasks = [
                await tx.tasks.add(NewTask(name=name, person=owner), NOW + number)
                for number, (owner, name) in enumerate(zip(owners, names, strict=True))
            ]
            claimed = await tx.tasks.claim(tasks[1].id, "w", NOW)
            assert claimed
            await tx.tasks.end_attempt(claimed, FAILED, NOW + 9)
        yield World(replica, ann, bob, root, tasks)


async def test_people_list_their_own_tasks_newest_first(world: World) -> None:
    assert await world.numbers(world.ann) == [3, 2, 1, 0]
    assert await world.numbers(world.bob) == [4]
    assert await world.numbers(world.ann, name="a") == [2, 0]
    assert await world.numbers(world.ann, state="failed") == [1]
    first = await world.get(world.ann, limit=3)
    second = await world.get(world.ann, limit=3, cursor=first["next"])
    assert [len(first["tasks"]), len(second["tasks"]), second["next"]] == [3, 1, None]
    (failed,) = (await world.get(world.ann, state="failed"))["tasks"]
    assert failed == await world.get(world.ann, f"/{world.tasks[1].id}")
    assert (failed["attempt"], failed["error"], failed["finished_at"]) == (1, "ValueError: no", NOW + 9)
    assert not {"arguments", "worker"} & failed.keys()


async def test_only_an_admin_sees_the_tasks_of_others(world: World) -> None:
    assert await world.numbers(world.root) == []
    assert await world.numbers(world.root, all=True) == [5, 4, 3, 2, 1, 0]
    assert (await world.get(world.root, f"/{world.tasks[5].id}"))["person"] is None
    assert await world.replica.status(world.ann, "/v1/tasks?all=true") == 403
    assert await world.replica.status("", "/v1/tasks") == 401
    for method, path in (("GET", ""), ("POST", "/replay"), ("POST", "/cancel")):
        for task_id in (world.tasks[4].id, world.tasks[5].id, "unknown"):
            response = await world.replica.request(method, f"/v1/tasks/{task_id}{path}", world.ann)
            assert response.status_code == 404, response.text


async def test_failed_task_is_replayed_by_its_owner_and_a_waiting_one_cancelled_by_an_admin(world: World) -> None:
    failed, waiting = f"/v1/tasks/{world.tasks[1].id}", f"/v1/tasks/{world.tasks[0].id}"

    async def post(token: str, path: str) -> tuple[int, Any]:
        response = await world.replica.request("POST", path, token)
        return response.status_code, response.json().get("state")

    assert await post(world.ann, f"{failed}/replay") == (200, "queued")
    assert await post(world.ann, f"{failed}/replay") == (409, None)
    assert await post(world.root, f"{waiting}/cancel") == (200, "cancelled")
    assert await post(world.ann, f"{waiting}/cancel") == (409, None)
    events = [event for event in await world.replica.audit() if event.action.startswith("task_")]
    ann, root = (await world.replica.person("ann")).id, (await world.replica.person("root")).id
    assert [(event.action, event.actor, event.subject) for event in events] == [
        ("task_replayed", ann, ann),
        ("task_cancelled", root, ann),
    ]
    assert events[0].detail == {"task": world.tasks[1].id, "name": "b"}


async def test_operator_lists_replays_and_cancels(
    world: World, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def kurs_tasks(*words: str) -> str:
        settings = Settings(_env_file=None, DATABASE_URL=database)
        assert await run_command(settings, parse_command("tasks", words)) == 0
        return capsys.readouterr().out

    everything = (await kurs_tasks("list")).splitlines()
    assert [line[:36] for line in everything[:-1]] == [task.id for task in reversed(world.tasks)]
    failed = world.tasks[1].id
    assert await kurs_tasks("list", "--state", "failed", "--name", "b") == (
        f"{failed}  2027-01-15T08:00:00Z  failed     b: ValueError: no\n1 task\n"
    )
    assert "error            ValueError: no\n" in await kurs_tasks("show", failed)
    assert await kurs_tasks("replay", failed) == f"{failed} is queued\n"
    with pytest.raises(Conflict, match="only a failed task"):
        await kurs_tasks("replay", failed)
    assert await kurs_tasks("cancel", failed) == f"{failed} is cancelled\n"
    with pytest.raises(UnknownName, match="kurs tasks list"):
        await kurs_tasks("show", "unknown")
    assert [event.actor for event in (await world.replica.audit())[-2:]] == ["operator"] * 2
