"""API tokens and the callers that the edge knows by them, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.api.accounts.api_tokens import MAX_TOKENS
from services.api.accounts.authentication import CACHE_MS, USE_INTERVAL_MS
from services.core.accounts.model import PersonState
from services.core.accounts.token_format import RANDOM_BYTES, TokenType, check_token, new_token
from tests.api import CallCounter
from tests.people import PeopleReplica, PeopleSystem, people_system

DAY_MS = 86_400_000
NEW = {"name": "bot", "scopes": ["read"]}


@pytest.fixture
async def system(database: str) -> AsyncIterator[PeopleSystem]:
    async with people_system(database) as system:
        yield system


@pytest.fixture
def kurs(system: PeopleSystem) -> PeopleReplica:
    return system.replica()


async def make(kurs: PeopleReplica, access: str, **changes: Any) -> Any:
    response = await kurs.request("POST", "/v1/api-tokens", access, json=NEW | changes)
    assert response.status_code == 201, response.text
    return response.json()


async def listed(kurs: PeopleReplica, access: str) -> list[Any]:
    rows: list[Any] = (await kurs.request("GET", "/v1/api-tokens", access)).json()["api_tokens"]
    return rows


async def test_token_is_shown_once_and_serves_a_program(kurs: PeopleReplica) -> None:
    access = await kurs.access()
    made = await make(kurs, access, scopes=["trade", "read"])
    token = made.pop("token")
    assert check_token(token) is TokenType.PERSONAL
    assert made == {
        "id": made["id"],
        "name": "bot",
        "prefix": token[:11],
        "scope": "read trade",
        "created_at": kurs.clock.time,
        "expires_at": kurs.clock.time + 90 * DAY_MS,
        "last_used_at": None,
    }
    me = (await kurs.request("GET", "/v1/me", token)).json()
    assert (me["name"], me["token"], me["scope"]) == ("ann", "api", "read trade")
    kurs.clock.time += 1
    response = await kurs.request("GET", "/v1/api-tokens", access)
    assert token not in response.text
    assert response.json()["api_tokens"] == [made | {"last_used_at": kurs.clock.time - 1}]
    created = [event for event in await kurs.audit() if event.action == "api_token_created"]
    assert [event.detail for event in created] == [{"token": made["id"], "scope": "read trade"}]


async def test_token_ends_when_it_is_deleted_and_for_others_it_does_not_exist(system: PeopleSystem) -> None:
    kurs, other = system.replica(), system.replica()
    ann, bob = await kurs.access("ann"), await kurs.access("bob")
    made = await make(kurs, ann)
    assert await kurs.status(made["token"]) == await other.status(made["token"]) == 200
    path = f"/v1/api-tokens/{made['id']}"
    for token, wrong in ((bob, path), (ann, "/v1/api-tokens/unknown")):
        response = await kurs.request("DELETE", wrong, token)
        assert (response.status_code, response.json()["code"]) == (404, "not-found")
    assert await listed(kurs, bob) == []
    assert (await kurs.request("DELETE", path, ann)).status_code == 204
    assert await kurs.status(made["token"]) == 401
    system.clock.time += CACHE_MS
    assert await other.status(made["token"]) == 401
    assert await listed(kurs, ann) == []
    assert [event.action for event in await kurs.audit()][-1] == "api_token_deleted"


async def test_token_cannot_manage_credentials(kurs: PeopleReplica) -> None:
    token = (await make(kurs, await kurs.access()))["token"]
    managing = [
        ("GET", "/v1/api-tokens", None),
        ("POST", "/v1/api-tokens", NEW),
        ("DELETE", "/v1/api-tokens/x", None),
        ("GET", "/v1/sign-ins", None),
        ("DELETE", "/v1/sign-ins", None),
        ("DELETE", "/v1/sign-ins/x", None),
        ("DELETE", "/v1/sign-in", None),
        ("POST", "/v1/me/password", {"password": "x", "new_password": "y"}),
        ("DELETE", "/v1/me", {"password": "x"}),
    ]
    for method, path, body in managing:
        response = await kurs.request(method, path, token, **({"json": body} if body else {}))
        assert (response.status_code, "sign in" in response.json()["detail"]) == (403, True), path
    assert await kurs.status(token) == 200


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (NEW | {"scopes": ["admin"]}, 403, "you have no `admin`"),
        (NEW | {"scopes": []}, 400, "scopes"),
        (NEW | {"scopes": ["all"]}, 400, "scopes"),
        (NEW | {"name": ""}, 400, "name"),
        (NEW | {"name": " \u2003"}, 422, "name"),
        (NEW | {"name": "a\x1b[31m"}, 422, "name"),
        (NEW | {"expires_in": 366 * 86_400 + 1}, 400, "expires_in"),
        (NEW | {"expires_in": 0}, 400, "expires_in"),
        (NEW | {"kind": "s"}, 400, "no field 'kind'"),
    ],
)
async def test_token_that_is_not_possible_says_why(sqlite: str, body: Any, status: int, detail: str) -> None:
    async with people_system(sqlite) as system:
        kurs = system.replica()
        response = await kurs.request("POST", "/v1/api-tokens", await kurs.access(), json=body)
        assert (response.status_code, detail in response.json()["detail"]) == (status, True), response.text


async def test_person_has_fifty_tokens_at_most_however_many_are_made_at_once(kurs: PeopleReplica) -> None:
    access = await kurs.access()
    requests = (kurs.request("POST", "/v1/api-tokens", access, json=NEW) for _ in range(MAX_TOKENS + 10))
    statuses = [response.status_code for response in await asyncio.gather(*requests)]
    assert (statuses.count(201), statuses.count(409)) == (MAX_TOKENS, 10)
    assert len(await listed(kurs, access)) == MAX_TOKENS


async def test_token_expires_and_its_use_is_saved_once_a_minute(kurs: PeopleReplica) -> None:
    access = await kurs.access()
    made = await make(kurs, access, expires_in=3_600)
    began = kurs.clock.time

    async def used() -> int:
        assert await kurs.status(made["token"]) == 200
        person = await kurs.person("ann")
        async with kurs.store.transaction() as tx:
            (token,) = await tx.api_tokens.of_person(person.id, 0)
        return (token.last_used_at or 0) - began

    assert await used() == 0
    for seconds, saved in ((10, 0), (50, 0), (60, 60), (114, 60), (200, 200)):
        kurs.clock.time = began + seconds * 1000
        assert await used() == saved * 1000
    assert USE_INTERVAL_MS == 60_000
    kurs.clock.time = began + 3_599_000
    assert await kurs.status(made["token"]) == 200
    kurs.clock.time += 1_000  # less than a caller is cached
    assert await kurs.status(made["token"]) == 401


async def test_token_of_a_disabled_person_is_refused_until_the_person_is_enabled(system: PeopleSystem) -> None:
    kurs = system.replica()
    token = (await make(kurs, await kurs.access()))["token"]
    person = await kurs.person("ann")
    for state, status in ((PersonState.DISABLED, 401), (PersonState.ACTIVE, 200)):
        async with kurs.store.transaction() as tx:
            await tx.persons.set_state(person.id, state)
        system.clock.time += CACHE_MS
        assert await kurs.status(token) == status


async def test_tokens_that_are_not_valid_are_refused_by_their_form_and_displace_none(sqlite: str) -> None:
    """Invented tokens with a right checksum cost a query each; any others cost none. Cached callers stay cached."""
    async with people_system(sqlite) as system:
        counter = CallCounter(system.replica().store)
        access = await system.opened[0].access()
        kurs = PeopleReplica(system.clock, system.cache, counter, system.settings)
        assert await kurs.status(access) == 200
        counter.calls.clear()
        kinds = (TokenType.REFRESH, TokenType.TICKET, TokenType.INVITATION, TokenType.SIGNAL)
        wrong = [new_token(kind, bytes(RANDOM_BYTES)) for kind in kinds]
        wrong += ["x", "kurs_p_", new_token(TokenType.PERSONAL, bytes(RANDOM_BYTES))[:-1] + "x", access[:-4], "a.b.c"]
        for token in wrong:
            response = await kurs.request("GET", "/v1/me", token)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == 'Bearer realm="kurs", error="invalid_token"'
            assert token == "x" or token not in response.text
        assert not counter.calls
        for number in range(20):
            assert await kurs.status(new_token(TokenType.PERSONAL, bytes([number]) * RANDOM_BYTES)) == 401
        assert counter.calls["transaction"] == 20
        counter.calls.clear()
        assert await kurs.status(access, "/v1/sign-ins") == 200
        assert counter.calls["transaction"] == 1  # of the list alone
        await kurs.client.aclose()


async def test_many_requests_at_once_check_a_token_once(sqlite: str) -> None:
    async with people_system(sqlite) as system:
        counter = CallCounter(system.replica().store)
        access = await system.opened[0].access()
        kurs = PeopleReplica(system.clock, system.cache, counter, system.settings)
        statuses = await asyncio.gather(*(kurs.status(access, "/openapi.json") for _ in range(30)))
        assert statuses == [200] * 30
        assert counter.calls["transaction"] <= 2  # the keys, and the sign-in
        await kurs.client.aclose()
