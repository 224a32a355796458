"""Registration, sign-ins, refresh tokens and sign-outs over HTTP, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from services.api.accounts.authentication import CACHE_MS
from services.api.accounts.password_hasher import MAX_RUNNING, MAX_WAITING
from services.api.accounts.sign_ins import MAX_SIGN_INS
from services.core.accounts.audit import AuditEvent, Outcome
from services.core.accounts.passwords import Argon2Parameters, hash_password
from services.core.accounts.refreshing import LIFETIME_MS, REPEAT_MS
from services.core.accounts.token_format import RANDOM_BYTES, TokenType, family_of, new_token
from services.core.tasks import TaskFilter
from tests.people import PASSWORD, PeopleReplica, PeopleSystem, people_system
from tests.waiting import eventually

WRONG = "wrong horse battery staple"


@pytest.fixture
async def system(database: str) -> AsyncIterator[PeopleSystem]:
    async with people_system(database) as system:
        yield system


@pytest.fixture
def kurs(system: PeopleSystem) -> PeopleReplica:
    return system.replica()


def hashes() -> int:
    """How many passwords were hashed."""
    return int(REGISTRY.get_sample_value("kurs_password_hash_seconds_count") or 0)


def named(events: list[AuditEvent], action: str) -> list[AuditEvent]:
    return [event for event in events if event.action == action]


async def test_person_registers_signs_in_and_is_known(kurs: PeopleReplica) -> None:
    person = await kurs.register("Ann@Example.org")
    assert person == {
        "id": person["id"],
        "name": "ann@example.org",
        "role": "trader",
        "state": "active",
        "created_at": kurs.clock.time,
    }
    signed_in = await kurs.sign_in("ANN@example.ORG")
    assert signed_in["person"] == person
    assert (signed_in["token_type"], signed_in["expires_in"]) == ("Bearer", 600)
    assert signed_in["refresh_expires_in"] == LIFETIME_MS // 1000
    assert signed_in["scope"] == "read trade wallet signal"
    me = await kurs.request("GET", "/v1/me", signed_in["access_token"])
    assert me.json() == {**person, "token": "access", "scope": signed_in["scope"]}
    assert me.headers["cache-control"] == "private, no-store"
    registered, began = await kurs.audit()
    assert (registered.action, registered.actor, registered.subject) == ("registered", person["id"], person["id"])
    assert (began.action, began.actor, began.outcome) == ("sign_in", person["id"], Outcome.DONE)
    assert "ann" not in str([registered, began])
    async with kurs.store.transaction() as tx:
        (task,) = await tx.tasks.find(TaskFilter(person=person["id"]), 10)
    assert task.name == "create_data_key"


async def test_names_are_unique_in_any_case(kurs: PeopleReplica) -> None:
    await kurs.register("ann")
    response = await kurs.request("POST", "/v1/persons", json={"name": "ANN", "password": PASSWORD})
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert len(await kurs.audit()) == 1


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"name": "an", "password": PASSWORD}, 422, "3 to 64"),
        ({"name": "ann", "password": "short"}, 422, "12 to 1000"),
        ({"name": "ann", "password": ""}, 422, "0 characters"),
        ({"name": "ann", "password": "Password1234"}, 422, "guessed"),
        ({"name": "ann", "password": PASSWORD, "role": "admin"}, 400, "no field 'role'"),
        ({"name": "ann", "password": PASSWORD, "id": "1"}, 400, "no field 'id'"),
        ({"name": "ann"}, 400, "password is missing"),
        ({"name": ["ann"], "password": PASSWORD}, 400, "name"),
        ({"name": "ann", "password": PASSWORD, "invitation": "kurs_i_x"}, 422, "invitation"),
    ],
)
async def test_registration_that_is_not_accepted_says_why(sqlite: str, body: Any, status: int, detail: str) -> None:
    async with people_system(sqlite) as system:
        response = await system.replica().request("POST", "/v1/persons", json=body)
        assert response.status_code == status
        assert detail in response.json()["detail"]
        assert "horse" not in response.text


async def test_wrong_name_and_wrong_password_cost_and_say_the_same(kurs: PeopleReplica) -> None:
    await kurs.register()
    before, answers = hashes(), []
    for name, password in (("ann", WRONG), ("bob", PASSWORD), ("no such name!", PASSWORD)):
        response = await kurs.request("POST", "/v1/sign-in", json={"name": name, "password": password})
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="kurs"'
        answers.append({**response.json(), "request_id": ""})
        assert hashes() == before + len(answers)
    assert answers[0] == answers[1] == answers[2]
    refused = named(await kurs.audit(), "sign_in")
    person = await kurs.person("ann")
    assert [(each.outcome, each.subject, each.detail) for each in refused] == [
        (Outcome.REFUSED, person.id, {"reason": "password"}),
        (Outcome.REFUSED, "", {"reason": "name"}),
        (Outcome.REFUSED, "", {"reason": "name"}),
    ]
    assert "bob" not in str(refused)


async def test_hash_of_older_parameters_is_replaced_at_the_next_sign_in(kurs: PeopleReplica) -> None:
    await kurs.register()
    person = await kurs.person("ann")
    old = hash_password(PASSWORD, bytes(16), Argon2Parameters(memory_kib=64, iterations=1, lanes=1))
    async with kurs.store.transaction() as tx:
        await tx.persons.set_password(person.id, old, person.password_changed_at)
    await kurs.sign_in()
    new = await kurs.person("ann")
    assert new.password_hash.startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    assert new.password_changed_at == person.password_changed_at
    before = hashes()
    await kurs.sign_in()
    assert hashes() == before + 1


async def test_password_is_the_same_however_it_is_typed(kurs: PeopleReplica) -> None:
    await kurs.register(password="cafe\u0301 au lait, deux")
    await kurs.sign_in(password="caf\u00e9 au lait, deux")


async def test_refresh_token_is_exchanged_for_its_successor(kurs: PeopleReplica) -> None:
    await kurs.register()
    first = await kurs.sign_in()
    kurs.clock.time += 3_600_000
    second = (await kurs.refresh(first["refresh_token"])).json()
    assert second.keys() == first.keys()
    assert second["refresh_token"] != first["refresh_token"]
    assert await kurs.status(first["access_token"]) == 401  # it has expired
    assert await kurs.status(second["access_token"]) == 200
    (listed,) = (await kurs.request("GET", "/v1/sign-ins", second["access_token"])).json()["sign_ins"]
    assert listed["last_used_at"] == kurs.clock.time
    kurs.clock.time += LIFETIME_MS
    assert (await kurs.refresh(second["refresh_token"])).status_code == 401


async def test_parallel_refreshes_keep_the_sign_in(system: PeopleSystem) -> None:
    """Twenty at once over two replicas: one family, and all get the same successor."""
    replicas = [system.replica(), system.replica()]
    await replicas[0].register()
    first = await replicas[0].sign_in()
    responses = await asyncio.gather(*(replicas[n % 2].refresh(first["refresh_token"]) for n in range(20)))
    assert [response.status_code for response in responses] == [200] * 20
    (successor,) = {response.json()["refresh_token"] for response in responses}
    tokens = [response.json()["access_token"] for response in responses]
    assert [await replicas[n % 2].status(token) for n, token in enumerate(tokens)] == [200] * 20
    sign_ins = (await replicas[0].request("GET", "/v1/sign-ins", tokens[0])).json()["sign_ins"]
    assert [each["current"] for each in sign_ins] == [True]
    assert (await replicas[1].refresh(successor)).status_code == 200
    assert not named(await replicas[0].audit(), "refresh_reused")


async def test_lost_response_is_repeated_until_the_successor_is_used(kurs: PeopleReplica) -> None:
    await kurs.register()
    first = (await kurs.sign_in())["refresh_token"]
    second = (await kurs.refresh(first)).json()["refresh_token"]
    kurs.clock.time += REPEAT_MS
    assert (await kurs.refresh(first)).json()["refresh_token"] == second
    third = (await kurs.refresh(second)).json()["refresh_token"]
    assert len({first, second, third}) == 3
    assert (await kurs.refresh(first)).status_code == 401  # its successor was used, so two clients have it
    assert (await kurs.refresh(third)).status_code == 401


@pytest.mark.parametrize("thief", ["old", "invented"])
async def test_stolen_refresh_token_signs_everybody_out(
    system: PeopleSystem, thief: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A minute later an old token ends the sign-in, for the thief and the person, but not the person's others."""
    kurs, other = system.replica(), system.replica()
    await kurs.register()
    phone, laptop = await kurs.sign_in(), await kurs.sign_in()
    second = (await kurs.refresh(phone["refresh_token"])).json()
    assert await other.status(second["access_token"]) == 200
    kurs.clock.time += 60_000
    stolen = phone["refresh_token"]
    if thief == "invented":
        stolen = new_token(TokenType.REFRESH, bytes(RANDOM_BYTES), family_of(stolen))
    reuse = await kurs.refresh(stolen)
    assert (reuse.status_code, reuse.headers["www-authenticate"]) == (401, 'Bearer realm="kurs", error="invalid_token"')
    assert await kurs.status(second["access_token"]) == 401
    assert (await other.refresh(second["refresh_token"])).status_code == 401
    kurs.clock.time += CACHE_MS
    assert await other.status(second["access_token"]) == 401
    assert await other.status(laptop["access_token"]) == 200
    (event,) = named(await kurs.audit(), "refresh_reused")
    person = await kurs.person("ann")
    assert (event.outcome, event.subject, event.actor) == (Outcome.REFUSED, person.id, "")
    (warning,) = [record for record in caplog.records if "old refresh token" in record.message]
    assert (warning.levelname, warning.__dict__["person"]) == ("WARNING", person.id)
    assert stolen not in caplog.text
    assert (await kurs.refresh(stolen)).status_code == 401
    assert len(named(await kurs.audit(), "refresh_reused")) == 1  # once for each sign-in


async def test_unknown_refresh_tokens_change_nothing(kurs: PeopleReplica) -> None:
    await kurs.register()
    signed_in = await kurs.sign_in()
    before = await kurs.audit()
    tokens = [new_token(TokenType.REFRESH, bytes(RANDOM_BYTES)), signed_in["access_token"], "", "kurs_r_1"]
    tokens += [signed_in["refresh_token"][:-1] + "!", new_token(TokenType.PERSONAL, bytes(RANDOM_BYTES))]
    for token in tokens:
        response = await kurs.refresh(token)
        assert response.status_code == 401
        assert not token or token not in response.text
    assert await kurs.audit() == before
    assert (await kurs.refresh(signed_in["refresh_token"])).status_code == 200


async def test_sign_out_ends_one_sign_in_at_once_and_elsewhere_within_seconds(system: PeopleSystem) -> None:
    here, there = system.replica(), system.replica()
    await here.register()
    phone, laptop = await here.sign_in(), await here.sign_in()
    assert await there.status(phone["access_token"]) == 200
    response = await here.request("DELETE", "/v1/sign-in", phone["access_token"])
    assert (response.status_code, response.content) == (204, b"")
    assert await here.status(phone["access_token"]) == 401
    system.clock.time += CACHE_MS
    assert await there.status(phone["access_token"]) == 401
    assert (await there.refresh(phone["refresh_token"])).status_code == 401
    assert await there.status(laptop["access_token"]) == 200
    assert [event.subject for event in named(await here.audit(), "sign_out")] == [phone["person"]["id"]]


async def test_sign_out_everywhere_ends_all_sign_ins_of_one_person(kurs: PeopleReplica) -> None:
    bob = await kurs.access("bob")
    await kurs.register()
    phone, laptop = await kurs.sign_in(), await kurs.sign_in()
    assert (await kurs.request("DELETE", "/v1/sign-ins", phone["access_token"])).status_code == 204
    for each in (phone, laptop):
        assert await kurs.status(each["access_token"]) == 401
        assert (await kurs.refresh(each["refresh_token"])).status_code == 401
    assert await kurs.status(bob) == 200
    (event,) = named(await kurs.audit(), "sign_out_everywhere")
    assert event.detail == {"sign_ins": "2"}


async def test_sign_ins_are_listed_and_ended_one_by_one(kurs: PeopleReplica) -> None:
    bob = await kurs.access("bob")
    await kurs.register()
    phone = (await kurs.sign_in())["access_token"]
    kurs.clock.time += 1
    laptop = (await kurs.sign_in())["access_token"]
    rows = (await kurs.request("GET", "/v1/sign-ins", phone)).json()["sign_ins"]
    assert [row["current"] for row in rows] == [False, True]
    assert rows[0].keys() == {"id", "created_at", "last_used_at", "expires_at", "address", "agent", "current"}
    assert (rows[0]["address"], rows[0]["agent"]) == ("127.0.0.1", rows[1]["agent"])
    path = f"/v1/sign-ins/{rows[0]['id']}"
    assert (await kurs.request("DELETE", path, bob)).status_code == 404
    assert (await kurs.request("DELETE", "/v1/sign-ins/unknown", phone)).status_code == 404
    assert (await kurs.request("DELETE", path, phone)).status_code == 204
    assert (await kurs.request("DELETE", path, phone)).status_code == 404
    assert [await kurs.status(token) for token in (phone, laptop, bob)] == [200, 401, 200]
    assert len(named(await kurs.audit(), "sign_in_ended")) == 1


async def test_new_password_ends_all_other_sign_ins(kurs: PeopleReplica) -> None:
    await kurs.register()
    phone, laptop = await kurs.sign_in(), await kurs.sign_in()
    body = {"password": PASSWORD, "new_password": "another horse, another battery"}
    for wrong, status in (
        ({"password": WRONG}, 403),
        ({"new_password": "ann"}, 422),
        ({"new_password": PASSWORD}, 422),
        ({"name": "bob"}, 400),
    ):
        response = await kurs.request("POST", "/v1/me/password", phone["access_token"], json=body | wrong)
        assert (response.status_code, "horse" in response.text) == (status, False)
    assert (await kurs.request("POST", "/v1/me/password", phone["access_token"], json=body)).status_code == 204
    assert [await kurs.status(each["access_token"]) for each in (phone, laptop)] == [200, 401]
    assert (await kurs.refresh(laptop["refresh_token"])).status_code == 401
    assert (await kurs.refresh(phone["refresh_token"])).status_code == 200
    await kurs.sign_in(password=body["new_password"])
    old = await kurs.request("POST", "/v1/sign-in", json={"name": "ann", "password": PASSWORD})
    assert old.status_code == 401
    events = await kurs.audit()
    assert len(named(events, "password_changed")) == len(named(events, "password_confirmed")) == 1


async def test_deleted_person_leaves_an_id_in_the_audit_log_alone(system: PeopleSystem) -> None:
    kurs, other = system.replica(), system.replica()
    await kurs.register()
    signed_in = await kurs.sign_in()
    person, token = await kurs.person("ann"), signed_in["access_token"]
    made = await kurs.request("POST", "/v1/api-tokens", token, json={"name": "bot", "scopes": ["read"]})
    assert await other.status(token) == await other.status(made.json()["token"]) == 200
    wrong = await kurs.request("DELETE", "/v1/me", token, json={"password": WRONG})
    assert (wrong.status_code, await kurs.status(token)) == (403, 200)
    assert (await kurs.request("DELETE", "/v1/me", token, json={"password": PASSWORD})).status_code == 204
    system.clock.time += CACHE_MS
    for replica in (kurs, other):
        assert await replica.status(token) == await replica.status(made.json()["token"]) == 401
        assert (await replica.refresh(signed_in["refresh_token"])).status_code == 401
    async with kurs.store.transaction() as tx:
        assert await tx.persons.get(person.id) is None
        assert await tx.sign_ins.of_person(person.id, 0) == []
        assert await tx.api_tokens.of_person(person.id, 0) == []
    (event,) = named(await kurs.audit(), "person_deleted")
    assert (event.subject, event.detail) == (person.id, {})
    assert (await kurs.register())["id"] != person.id  # the name is free again


async def test_too_many_sign_ins_end_the_longest_unused(sqlite: str) -> None:
    async with people_system(sqlite) as system:
        kurs = system.replica()
        await kurs.register()
        first = await kurs.sign_in()
        person = await kurs.person("ann")
        async with kurs.store.transaction() as tx:
            (stored,) = await tx.sign_ins.of_person(person.id, 0)
            for number in range(MAX_SIGN_INS - 1):
                copy = {name: getattr(stored, name) for name in stored.__struct_fields__} | {
                    "id": str(number),
                    "family_hash": f"f{number}",
                    "refresh_hash": f"r{number}",
                    "last_used_at": stored.last_used_at + 1,
                }
                await tx.sign_ins.add(type(stored)(**copy), MAX_SIGN_INS)
        kurs.clock.time += 2
        assert await kurs.status(first["access_token"]) == 200
        last = await kurs.sign_in()
        kurs.clock.time += CACHE_MS
        assert [await kurs.status(each["access_token"]) for each in (first, last)] == [401, 200]


async def test_sign_ins_wait_in_a_bounded_queue_that_delays_no_other_request(sqlite: str) -> None:
    async with people_system(sqlite, sign_in_rate_limit=0) as system:
        kurs = system.replica()

        async def attempt(number: int) -> int:
            """From addresses of their own, as a thousand people have them."""
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(kurs.app, client=(f"192.0.2.{number}", 1)), base_url="http://localhost"
            )
            async with client:
                body = {"name": f"person{number}", "password": WRONG}
                response = await client.post("/v1/sign-in", json=body)
                assert response.status_code in (401, 503)
                return response.status_code if response.status_code == 401 else int(response.headers["retry-after"])

        attempts = [asyncio.create_task(attempt(number)) for number in range(MAX_RUNNING + MAX_WAITING + 40)]
        await eventually(lambda: any(task.done() and task.result() == 5 for task in attempts))
        assert (await kurs.request("GET", "/v1/timeframes")).status_code == 200
        assert not all(task.done() for task in attempts)  # it did not wait for them
        for task in attempts:
            task.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
