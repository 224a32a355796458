"""Attacks on people, over all operations of the API's description: a new endpoint is attacked without a new test."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import select

from services import api
from services.adapters.sql.engine import make_engine
from services.adapters.sql.tables import metadata
from services.core.accounts.scopes import Scope
from services.web import openapi_document
from tests.people import PASSWORD, PeopleReplica, PeopleSystem, people_system

DESCRIPTION = openapi_document(api.ROUTERS, api.ENDPOINTS)
# What anyone may do that changes something. A new one belongs here only if it needs no token on purpose.
OPEN_WRITES = {"register", "sign_in", "refresh_sign_in"}
REFUSALS = (400, 401, 403, 404, 409, 422)
USE_COLUMNS = ("last_used_at",)  # a caller's own use of a token changes these
FOREIGN_FIELDS = (
    "id",
    "person",
    "subject",
    "role",
    "state",
    "is_admin",
    "admin",
    "scope",
    "password_hash",
    "created_at",
)


class Operation(NamedTuple):
    """One operation of the description."""

    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def security(self) -> list[dict[str, list[str]]]:
        return list(self.described.get("security", ()))

    @property
    def scope(self) -> str:
        """The scope that it needs."""
        ((scope,),) = {tuple(scopes) for each in self.security for scopes in each.values()}
        return str(scope)

    @property
    def kinds(self) -> set[str]:
        """The kinds of tokens that it accepts."""
        return {kind for each in self.security for kind in each}

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The schema of its body."""
        content = self.described.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return None
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema: Mapping[str, Any] = DESCRIPTION["components"]["schemas"][name]
        return schema

    def parameters(self, place: str) -> list[str]:
        """The names of its text parameters in `path` or `query`."""
        found = (each for each in self.described.get("parameters", ()) if each["in"] == place)
        return [each["name"] for each in found if each["schema"].get("type") == "string" or place == "path"]

    def url(self, value: str) -> str:
        """Its address, with that value for each parameter of the path."""
        path = self.path
        for name in self.parameters("path"):
            path = path.replace(f"{{{name}}}", value)
        return path

    def example_body(self, value: str = "") -> dict[str, Any]:
        """A body as it is described, in which each text that has no other form is `value`."""
        schema = self.body or {}
        return {name: _example(each, value) for name, each in schema.get("properties", {}).items()}


def _example(schema: Mapping[str, Any], value: str) -> Any:
    if "$ref" in schema:
        schema = DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], value)
    if value and schema.get("type") == "string":
        return value
    if "examples" in schema:
        return schema["examples"][0]
    kinds = {"string": PASSWORD, "integer": schema.get("minimum", 1), "boolean": False, "array": []}
    return kinds.get(schema.get("type", ""), {})


def _operations() -> Iterator[Operation]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, described in methods.items():
            yield Operation(method.upper(), path, described)


ALL = {each.described["operationId"]: each for each in _operations()}
PRIVATE = {name: each for name, each in ALL.items() if each.security}
WITH_BODY = {name: each for name, each in ALL.items() if each.body}


@pytest.fixture
async def system(sqlite: str) -> AsyncIterator[PeopleSystem]:
    async with people_system(sqlite) as system:
        yield system


@pytest.fixture
def kurs(system: PeopleSystem) -> PeopleReplica:
    return system.replica()


async def send(
    kurs: PeopleReplica, operation: Operation, token: str, value: str = "x", **options: Any
) -> httpx.Response:
    """Send a request of an operation."""
    if operation.body and "json" not in options:
        options["json"] = operation.example_body()
    return await kurs.request(operation.method, operation.url(value), token, **options)


async def admin(kurs: PeopleReplica, name: str = "root") -> str:
    """Return the access token of an admin."""
    await kurs.register(name)
    await kurs.promote(name)
    return str((await kurs.sign_in(name))["access_token"])


async def api_token(kurs: PeopleReplica, access: str, *scopes: str) -> str:
    """Return an API token with these scopes."""
    response = await kurs.request("POST", "/v1/api-tokens", access, json={"name": "program", "scopes": scopes})
    assert response.status_code == 201, response.text
    return str(response.json()["token"])


class Victim(NamedTuple):
    """A person with everything that a person can have. `marks`: what no other person may see."""

    id: str
    ids: list[str]
    marks: list[str]


async def rows(system: PeopleSystem, person: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a person."""
    engine = make_engine(system.database)
    found = {}
    async with engine.connect() as connection:
        for table in metadata.sorted_tables:
            owner = table.c.id if table.name == "persons" else table.c.get("person")
            if owner is not None:
                columns = [column for column in table.columns if column.name not in USE_COLUMNS]
                result = await connection.execute(select(*columns).where(owner == person))
                found[table.name] = [dict(row._mapping) for row in result]
    await engine.dispose()
    return found


async def victim(system: PeopleSystem, kurs: PeopleReplica) -> Victim:
    """Return Ann with sign-ins, tokens, a task and a past."""
    person = (await kurs.register("victim-ann"))["id"]
    headers = {"user-agent": "browser-of-ann"}
    for _ in range(2):
        body = {"name": "victim-ann", "password": PASSWORD}
        signed_in = (await kurs.request("POST", "/v1/sign-in", json=body, headers=headers)).json()
    await api_token(kurs, signed_in["access_token"], "read")
    belongings = await rows(system, person)
    assert {"persons", "sign_ins", "api_tokens", "tasks"} <= {name for name, found in belongings.items() if found}
    ids = [row["id"] for found in belongings.values() for row in found if "id" in row]
    texts = [row[name] for found in belongings.values() for row in found for name in ("prefix", "hash") if name in row]
    return Victim(person, ids, [*ids, *texts, "victim-ann", "browser-of-ann"])


def test_every_write_needs_a_token_unless_it_is_meant_to_be_open() -> None:
    assert {name for name, each in ALL.items() if each.method != "GET" and not each.security} == OPEN_WRITES
    assert len(PRIVATE) > 15


@pytest.mark.parametrize("name", PRIVATE)
async def test_ids_of_another_person_are_refused_and_change_nothing(
    system: PeopleSystem, kurs: PeopleReplica, name: str
) -> None:
    """Each id of Ann in each place of a request of Bob. Bob is signed in and has a program with all scopes."""
    ann = await victim(system, kurs)
    before, operation = await rows(system, ann.id), PRIVATE[name]
    for kind in ("access", "API"):
        bob = f"bob-{kind.lower()}"
        token = await kurs.access(bob)
        if kind == "API":
            token = await api_token(kurs, token, "read", "trade", "wallet", "signal")
        for stolen in ann.ids:
            requests: list[dict[str, Any]] = [{"params": {each: stolen}} for each in operation.parameters("query")]
            requests += [{"json": operation.example_body(stolen)}] if operation.body else []
            for options in requests or [{}]:
                response = await send(kurs, operation, token, stolen, **options)
                addressed = bool(operation.parameters("path") or operation.parameters("query"))
                assert response.status_code in REFUSALS if addressed else response.status_code < 500, response.text
                shown = response.text.replace(stolen, "").replace(stolen[:40], "")
                assert [mark for mark in ann.marks if mark in shown and mark not in stolen] == []
        assert await rows(system, ann.id) == before


@pytest.mark.parametrize("name", PRIVATE)
async def test_without_a_token_nothing_private_is_served(kurs: PeopleReplica, name: str) -> None:
    """A token is read from the header Authorization alone."""
    token = await admin(kurs)
    places: list[dict[str, Any]] = [
        {},
        *({"params": {place: token}} for place in ("access_token", "token", "authorization", "ticket")),
        *({"headers": {header: token}} for header in ("cookie", "x-api-key", "x-auth-token", "proxy-authorization")),
        {"headers": {"cookie": f"access_token={token}; Authorization=Bearer {token}"}},
        *({"headers": {"authorization": value}} for value in ("", "Bearer", "Bearer ", f"Basic {token}", token)),
        {"headers": {"authorization": f"Bearer {token}x"}},
        {"headers": {"authorization": f"Bearer {token[:-1]}"}},
        {"headers": {"authorization": f"Bearer Bearer {token}"}},
        {"headers": {"authorization": f"Bearer {token},{token}"}},
        {"headers": {"authorization": "Bearer " + "x" * 20_000}},
        {"headers": {"authorization": "Bearer kurs_p_" + "0" * 36}},
        {"headers": {"authorization": "Bearer \xff\xfe".encode("latin-1")}},
        {"headers": {"x-http-method-override": "GET", "x-original-url": "/v1/courses", "x-forwarded-user": "root"}},
    ]
    for options in places:
        response = await send(kurs, PRIVATE[name], "", **options)
        assert response.status_code == 401, (options, response.text)
        assert response.headers["www-authenticate"].startswith('Bearer realm="kurs"')
        assert token not in response.text
    assert (await send(kurs, PRIVATE[name], token)).status_code != 401


@pytest.mark.parametrize("name", PRIVATE)
async def test_token_that_allows_too_little_is_refused(kurs: PeopleReplica, name: str) -> None:
    operation, root = PRIVATE[name], await admin(kurs)
    tokens = {f"all but {operation.scope}": await api_token(kurs, root, *sorted(set(Scope) - {Scope(operation.scope)}))}
    if "apiToken" not in operation.kinds:
        tokens["API token"] = await api_token(kurs, root, *Scope)
    if operation.scope == Scope.ADMIN:
        tokens["a trader's"] = await kurs.access("bob")
    for what, token in tokens.items():
        response = await send(kurs, operation, token)
        assert response.status_code == 403, what
        assert f'scope="{operation.scope}"' in response.headers["www-authenticate"]
    everything = root if operation.kinds == {"accessToken"} else await api_token(kurs, root, *Scope)
    assert (await send(kurs, operation, everything)).status_code not in (401, 403) or operation.body


@pytest.mark.parametrize("name", WITH_BODY)
async def test_fields_that_are_not_for_clients_are_refused(
    system: PeopleSystem, kurs: PeopleReplica, name: str
) -> None:
    token, operation = await admin(kurs), WITH_BODY[name]
    known = (operation.body or {})["properties"]
    before = await rows(system, (await kurs.person("root")).id)
    for field in FOREIGN_FIELDS:
        if field not in known:
            response = await send(kurs, operation, token, json={**operation.example_body(), field: "admin"})
            assert response.status_code == 400, response.text
            assert f"no field {field!r}" in response.json()["detail"]
    assert await rows(system, (await kurs.person("root")).id) == before
