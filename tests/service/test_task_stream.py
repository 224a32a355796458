"""The channel `tasks`: what a person sees of their tasks live, on both protocols and both databases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
import websockets

from services.account_ports import AccountStore
from services.adapters.sql import accounts
from services.core.accounts.secret_keys import format_key
from services.core.tasks import AttemptEnd, NewTask, Task, TaskEvent
from services.key_files import new_key
from services.task_publisher import TaskPublisher
from tests.api import EventStream, ServedReplica, StreamTestClient, serve_replica
from tests.people import PeopleClient
from tests.stream_messages import candle
from tests.waiting import eventually

SUCCESS = AttemptEnd(event=TaskEvent.SUCCEEDED, result='{"n":1}')


class Kurs(NamedTuple):
    """A served API, the store of a process that runs tasks, and two people with their access tokens."""

    served: ServedReplica
    worker: AccountStore
    people: PeopleClient
    ann: str
    bob: str
    ann_id: str

    async def add(self, name: str = "x", person: str | None = None) -> Task:
        async with self.worker.transaction() as tx:
            return await tx.tasks.add(NewTask(name=name, person=person or self.ann_id), self.served.deps.clock.now())

    async def claim(self, task: Task) -> Task:
        async with self.worker.transaction() as tx:
            claimed = await tx.tasks.claim(task.id, "w", self.served.deps.clock.now())
        assert claimed
        return claimed

    async def end(self, claimed: Task, end: AttemptEnd = SUCCESS) -> None:
        async with self.worker.transaction() as tx:
            assert await tx.tasks.end_attempt(claimed, end, self.served.deps.clock.now())

    @asynccontextmanager
    async def socket(self, token: str) -> AsyncIterator[StreamTestClient]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self.served.socket_url
        async with websockets.connect(url, compression=None, additional_headers=headers) as connection:
            yield StreamTestClient(connection)

    @asynccontextmanager
    async def events(self, token: str, channels: str = "tasks") -> AsyncIterator[EventStream]:
        ticket = (await self.people.request("POST", "/v1/stream/tickets", token)).json()["ticket"]
        query = {"channels": channels, "ticket": ticket}
        async with self.people.client.stream("GET", "/v1/stream", params=query) as response:
            assert response.status_code == 200
            yield EventStream(response)


@pytest.fixture
async def kurs(database: str) -> AsyncIterator[Kurs]:
    store = accounts.connect(database)
    async with (
        serve_replica(accounts=store, token_key=format_key(new_key())) as served,
        httpx.AsyncClient(base_url=f"http://{served.address}", timeout=20) as client,
    ):
        people, worker = PeopleClient(client), accounts.connect(database, TaskPublisher(served.deps.bus))
        ann, bob = await people.access("ann"), await people.access("bob")
        me = (await people.request("GET", "/v1/me", ann)).json()
        yield Kurs(served, worker, people, ann, bob, me["id"])
        await worker.close()
    await store.close()


def states(data: Any) -> list[tuple[str, str]]:
    return [(task["name"], task["state"]) for task in data["tasks"]]


REGISTERED = ("create_data_key", "queued")  # no worker runs here


async def test_socket_gets_a_snapshot_and_each_change(kurs: Kurs) -> None:
    first = await kurs.add()
    async with kurs.socket(kurs.ann) as client:
        await client.send(action="subscribe", channels=["tasks"], id=1)
        assert (await client.next("subscribed"))["channels"] == ["tasks"]
        snapshot = await client.next("snapshot")
        assert snapshot.keys() == {"type", "channel", "data"}
        assert (snapshot["channel"], states(snapshot["data"])) == ("tasks", [REGISTERED, ("x", "queued")])
        claimed = await kurs.claim(first)
        assert states((await client.next("task_update"))["data"]) == [("x", "running")]
        await kurs.end(claimed)
        (ended,) = (await client.next("task_update"))["data"]["tasks"]
        assert ended == (await kurs.people.request("GET", f"/v1/tasks/{first.id}", kurs.ann)).json()
        await client.send(action="unsubscribe", channels=["tasks"])
        await client.next("unsubscribed")
        await kurs.add("unseen")
        await client.send(action="subscribe", channels=["tasks"])
        assert ("unseen", "queued") in states((await client.next("snapshot"))["data"])


async def test_event_stream_gets_the_same_beside_public_channels(kurs: Kurs) -> None:
    await kurs.served.publish(candle(0, 100))
    async with kurs.events(kurs.ann, "tasks,candles:BTCUSDT:1m") as stream:
        public, own = sorted([await stream.next(), await stream.next()], key=lambda event: event.name)
        assert public.id.isdigit()  # the cursor of the stream has no number for tasks
        assert (own.id, own.data["snapshot"], states(own.data)) == ("", True, [REGISTERED])
        await kurs.add()
        event = await stream.next()
        assert (event.name, states(event.data), "snapshot" in event.data) == ("tasks", [("x", "queued")], False)
    async with kurs.events(kurs.ann) as again:
        assert states((await again.next()).data) == [REGISTERED, ("x", "queued")]


async def test_people_get_nothing_of_others(kurs: Kurs) -> None:
    async with kurs.socket(kurs.ann) as ann, kurs.socket(kurs.bob) as bob:
        for client in (ann, bob):
            await client.send(action="subscribe", channels=["tasks"])
            assert states((await client.next("snapshot"))["data"]) == [REGISTERED]
        task = await kurs.add("of_ann")
        assert states((await ann.next("task_update"))["data"]) == [("of_ann", "queued")]
        response = await kurs.people.request("POST", f"/v1/tasks/{task.id}/cancel", kurs.ann)
        assert response.status_code == 200
        bob_id = (await kurs.people.request("GET", "/v1/me", kurs.bob)).json()["id"]
        await kurs.add("of_bob", bob_id)
        assert states((await bob.next("task_update"))["data"]) == [("of_bob", "queued")]


async def test_the_channel_needs_a_token(kurs: Kurs) -> None:
    async with kurs.socket("") as client:
        await client.send(action="subscribe", channels=["tasks"], id=1)
        refused = await client.next("error")
        assert (refused["code"], refused["id"]) == ("unauthenticated", 1)
    for channels, status in (("tasks", 401), ("tasks,connection", 401), ("Tasks", 422), ("tasks:x", 422)):
        response = await kurs.people.client.get("/v1/stream", params={"channels": channels})
        assert response.status_code == status, response.text
    history = await kurs.people.client.get("/v1/stream/history", params={"channels": "tasks"})
    assert (history.status_code, "/v1/tasks" in history.text) == (400, True)


async def test_a_change_of_which_the_bus_has_lost_the_news_is_sent_later(
    kurs: Kurs, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.streams.task_feed.RESYNC_SECONDS", 0)
    silent = accounts.connect(database)
    async with kurs.socket(kurs.ann) as client:
        await client.send(action="subscribe", channels=["tasks"])
        await client.next("snapshot")
        async with silent.transaction() as tx:
            await tx.tasks.add(NewTask(name="silent", person=kurs.ann_id), kurs.served.deps.clock.now())
        assert states((await client.next("task_update"))["data"]) == [("silent", "queued")]
    await silent.close()


async def test_old_tasks_that_change_are_sent_though_no_snapshot_has_them(
    kurs: Kurs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.streams.task_feed.MAX_TASKS", 2)
    old = await kurs.add("old")
    for _ in range(2):
        await kurs.add()
    async with kurs.socket(kurs.ann) as client:
        await client.send(action="subscribe", channels=["tasks"])
        assert states((await client.next("snapshot"))["data"]) == [("x", "queued")] * 2
        await kurs.claim(old)
        assert states((await client.next("task_update"))["data"]) == [("old", "running")]


async def test_clients_that_leave_are_forgotten(kurs: Kurs) -> None:
    async with kurs.socket(kurs.ann) as client, kurs.events(kurs.ann) as stream:
        await client.send(action="subscribe", channels=["tasks"])
        await client.next("snapshot")
        await stream.next()
    await eventually(lambda: kurs.served.stream_clients == 0)
