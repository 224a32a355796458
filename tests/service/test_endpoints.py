"""Endpoints as values: the parameters in OpenAPI are those that are parsed, and every kind of endpoint works."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter
from msgspec import Meta, Struct
from pydantic import BaseModel

from services import api
from services.core.accounts.scopes import Scope
from services.core.errors import BadRange, BadRequest, KursError, Unauthenticated, UnknownName
from services.web import (
    AppSpec,
    Caller,
    Content,
    Endpoint,
    NoQuery,
    RequestContext,
    TokenKind,
    Ttl,
    bind,
    create_app,
    marked,
    openapi_document,
    parse_query,
)
from tests.api import CoursesReplica

DESCRIBED = openapi_document(api.ROUTERS, api.ENDPOINTS)["paths"]
PARAMETERS = [
    pytest.param(endpoint, parameter, id=f"{endpoint.operation_id}-{parameter['name']}")
    for endpoint in api.ENDPOINTS
    for parameter in DESCRIBED.get(endpoint.path, {}).get(endpoint.method.lower(), {}).get("parameters", ())
]
LISTS = ("direction", "base", "quote", "exchanger", "timeframes", "indicators", "channels")


def example(parameter: dict[str, Any]) -> str:
    """Return a value that the description allows."""
    schema = parameter["schema"]
    if "examples" in schema:
        return str(schema["examples"][0])
    kinds = {"integer": str(schema.get("minimum", 1)), "number": str(schema.get("minimum", 1)), "boolean": "true"}
    return str(schema.get("enum", [kinds.get(schema["type"], "2026-01-31")])[0])


def parsed(endpoint: Any, **texts: str) -> Any:
    """Return an endpoint's query struct. Required parameters that are not given get an example."""
    described = DESCRIBED[endpoint.path][endpoint.method.lower()]["parameters"]
    given = {each["name"]: example(each) for each in described if each["required"]} | texts
    path = {each["name"]: given.pop(each["name"]) for each in described if each["in"] == "path"}
    text = str(httpx.QueryParams({name: value for name, value in given.items() if value}))
    return parse_query(endpoint.query, text.encode(), path)


def field(endpoint: Any, query: Any, name: str) -> Any:
    names = dict(zip(endpoint.query.__struct_encode_fields__, endpoint.query.__struct_fields__, strict=True))
    return getattr(query, names[name])


def test_every_endpoint_but_sockets_and_udf_is_described_once() -> None:
    named = [(endpoint.path, endpoint.method.lower()) for endpoint in api.ENDPOINTS if endpoint.operation_id]
    assert sorted(named) == sorted((path, method) for path, methods in DESCRIBED.items() for method in methods)
    assert {path for endpoint in api.ENDPOINTS for path in endpoint.paths if not endpoint.operation_id} == {
        "/ws/chart-data",
        *(f"/udf/{name}" for name in ("config", "symbols", "search", "history", "quotes", "marks", "time")),
    }


def test_described_parameters_are_those_that_are_parsed() -> None:
    for endpoint in api.ENDPOINTS:
        if endpoint.operation_id:
            described = [
                each["name"] for each in DESCRIBED[endpoint.path][endpoint.method.lower()].get("parameters", ())
            ]
            unknown = {"unknown"} & set(endpoint.query.__struct_fields__)
            assert described == [name for name in endpoint.query.__struct_encode_fields__ if name not in unknown]


@pytest.mark.parametrize(("endpoint", "parameter"), PARAMETERS)
def test_parameter_is_parsed_as_described(endpoint: Any, parameter: dict[str, Any]) -> None:
    name, schema = parameter["name"], parameter["schema"]
    value = field(endpoint, parsed(endpoint, **{name: example(parameter)}), name)
    kinds = {"integer": int, "number": float, "boolean": bool}
    assert isinstance(value, kinds.get(schema["type"], tuple if name in LISTS else (str, int)))
    if parameter["required"] and parameter["in"] == "query":
        with pytest.raises(BadRequest, match=f"{name} is missing"):
            parsed(endpoint, **{name: ""})
    elif parameter["in"] == "query":
        assert field(endpoint, parsed(endpoint), name) in (schema.get("default"), None, "", ())


@pytest.mark.parametrize(("endpoint", "parameter"), PARAMETERS)
def test_parameter_is_rejected_as_described(endpoint: Any, parameter: dict[str, Any]) -> None:
    name, schema = parameter["name"], parameter["schema"]
    for text in (*schema.get("enum", ()), schema.get("minimum"), schema.get("maximum")):
        if text is not None:
            assert field(endpoint, parsed(endpoint, **{name: str(text)}), name) in (
                text,
                int(text) if type(text) is int else text,
            )
    wrong: list[tuple[str, type[KursError]]] = []
    if "enum" in schema:
        wrong.append((f"{schema['enum'][0]}x", UnknownName))
    if "maximum" in schema:
        wrong.append((str(schema["maximum"] + 1), BadRange))
    if schema["type"] in ("integer", "number", "boolean"):
        wrong.append(("x", BadRequest))
    for text, error in wrong:
        with pytest.raises(error, match=name):
            parsed(endpoint, **{name: text})


class NewNote(Struct, forbid_unknown_fields=True):
    """A note to save."""

    text: Annotated[str, Meta(max_length=5)]


class Note(BaseModel):
    """A saved note."""

    text: str


class NoteQuery(Struct, kw_only=True, frozen=True):
    """Whether to wait."""

    shelf: str
    wait: bool = False


DELETE = Endpoint(
    path="/notes/{shelf}",
    query=NoteQuery,
    method="DELETE",
    status=204,
    scope=Scope.READ,
    operation_id="delete_notes",
    summary="Delete the notes of a shelf",
)
SAVE = Endpoint(
    path="/notes/{shelf}",
    query=NoteQuery,
    response=Note,
    method="POST",
    body=NewNote,
    status=202,
    scope=Scope.READ,
    operation_id="save_note",
    summary="Save a note",
)
OWN = Endpoint(path="/notes", query=NoQuery, response=Note, scope=Scope.READ, operation_id="own_notes")
ANN = {"authorization": "Bearer ann"}
ACCEPTED = Endpoint(path="/accepted", query=NoQuery, response=Note)
PUBLIC = Endpoint(path="/latest", query=NoQuery, response=Note, cache=Ttl(1_000, max_entries=1))


class NoteHandlers:
    """An endpoint that writes and responds with 202, a personal one, and a public one."""

    def __init__(self) -> None:
        self.calls = list[tuple[Any, ...]]()

    @SAVE.handler
    async def save(self, query: NoteQuery, body: NewNote, context: RequestContext) -> Content:
        self.calls.append((query.shelf, query.wait, body.text, context.person))
        return Content(b'{"text":"saved"}', status=200 if query.wait else None)

    @OWN.handler
    async def own(self, _query: NoQuery, context: RequestContext) -> Content:
        return Content(b'{"text":"%s"}' % context.person.encode())

    @DELETE.handler
    async def delete(self, query: NoteQuery, context: RequestContext) -> Content:
        self.calls.append((query.shelf, context.person))
        return Content(b"")

    @PUBLIC.handler
    async def latest(self, _query: NoQuery) -> Content:
        self.calls.append(())
        return Content(b'{"text":"latest"}')

    @ACCEPTED.handler
    async def accepted(self, _query: NoQuery) -> Content:
        return Content(b'{"text":"accepted"}', status=202)


class NamesAsTokens:
    """Everybody whose token is a name of letters; those in capitals may do nothing."""

    def cached(self, token: str) -> Caller | None:
        if not token.isalpha():
            raise Unauthenticated("this is no name")
        scopes = frozenset({Scope.READ}) if token.islower() else frozenset[Scope]()
        return Caller(token, token, TokenKind.ACCESS, scopes, "1")

    async def caller(self, token: str) -> Caller:
        found = self.cached(token)
        assert found
        return found


@pytest.fixture
async def notes() -> AsyncIterator[SimpleNamespace]:
    replica, handlers, router = CoursesReplica(), NoteHandlers(), APIRouter()

    @router.get("/plain/{name}")
    async def plain(name: str) -> Note:
        return Note(text=name)

    app = create_app(replica.deps, AppSpec([router], bind(handlers), authenticator=NamesAsTokens()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield SimpleNamespace(client=client, handlers=handlers, app=app)


async def test_endpoint_writes_for_a_known_caller_and_responds_with_202(notes: SimpleNamespace) -> None:
    headers = ANN
    response = await notes.client.post("/notes/a", json={"text": "hello"}, headers=headers)
    assert (response.status_code, response.json()) == (202, {"text": "saved"})
    assert response.headers["cache-control"] == "private, no-store"
    assert {"x-request-id", "kurs-market", "vary"} <= response.headers.keys()
    assert (await notes.client.post("/notes/a?wait=1", json={"text": "hello"}, headers=headers)).status_code == 200
    assert notes.handlers.calls == [("a", False, "hello", "ann"), ("a", True, "hello", "ann")]


async def test_endpoint_deletes_at_the_path_of_another_and_has_nothing_to_say(notes: SimpleNamespace) -> None:
    response = await notes.client.delete("/notes/a", headers=ANN)
    assert (response.status_code, response.content, notes.handlers.calls) == (204, b"", [("a", "ann")])
    assert not {"content-length", "content-type"} & response.headers.keys()
    operation = openapi_document([], marked(NoteHandlers).values())["paths"]["/notes/{shelf}"]["delete"]
    assert {"204", "404"} < operation["responses"].keys()


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"json": {"text": "hello"}, "headers": {}}, 401, "allows `read`"),
        ({"json": {"text": 1}, "params": {"wiat": "1"}, "headers": {}}, 401, "allows `read`"),
        ({"json": {"text": "hello"}, "headers": {"authorization": "Basic YTpi"}}, 401, "allows `read`"),
        ({"json": {"text": "hello"}, "headers": {"authorization": "Bearer 1"}}, 401, "no name"),
        ({"json": {"text": "hello"}, "headers": {"authorization": "Bearer ANN"}}, 403, "allows `read`"),
        ({"json": {"text": "too long"}}, 400, "text"),
        ({"json": {}}, 400, "text"),
        ({"content": b"{", "headers": ANN | {"content-type": "application/json"}}, 400, "not JSON"),
        ({"data": {"text": "hello"}}, 415, "application/json"),
        ({"json": {"text": "hello"}, "params": {"wiat": "1"}}, 400, "did you mean wait?"),
        ({"json": {"text": "hello"}, "params": {"wait": "1\0"}}, 400, "wait: U+0000"),
    ],
)
async def test_write_that_cannot_be_accepted_says_why(
    notes: SimpleNamespace, request_: dict[str, Any], status: int, detail: str
) -> None:
    response = await notes.client.post("/notes/a", **{"headers": ANN} | request_)
    assert response.status_code == status
    assert detail in response.json()["detail"]
    assert response.headers["content-type"] == "application/problem+json"
    assert not notes.handlers.calls


async def test_personal_response_is_for_its_caller_alone(notes: SimpleNamespace) -> None:
    for name in ("ann", "bob"):
        response = await notes.client.get("/notes", headers={"authorization": f"Bearer {name}"})
        assert (response.json(), response.headers["cache-control"]) == ({"text": name}, "private, no-store")
    assert (await notes.client.get("/notes")).headers["www-authenticate"] == 'Bearer realm="kurs"'
    with pytest.raises(ValueError, match="only what anyone may GET can be cached"):
        Endpoint(path="/mine", query=NoQuery, scope=Scope.READ, cache=Ttl(1, 1))


async def test_response_for_everyone_is_200(notes: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    assert (await notes.client.get("/accepted")).status_code == 500
    assert "GET /accepted: a response for everyone is 200" in caplog.text
    with pytest.raises(ValueError, match="is 200, not 202"):
        Endpoint(path="/accepted", query=NoQuery, status=202)


async def test_plain_route_stands_beside_endpoints(notes: SimpleNamespace) -> None:
    assert (await notes.client.get("/plain/one")).json() == {"text": "one"}
    assert (await notes.client.post("/latest")).status_code == 405
    for _ in range(3):
        assert (await notes.client.get("/latest?any=1")).json() == {"text": "latest"}
    assert len(notes.handlers.calls) == 1


def test_bodies_and_security_are_described() -> None:
    document = openapi_document([], marked(NoteHandlers).values())
    operation = document["paths"]["/notes/{shelf}"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NewNote"}
    assert document["components"]["schemas"]["NewNote"]["properties"]["text"]["maxLength"] == 5
    assert operation["security"] == [{"accessToken": ["read"]}, {"apiToken": ["read"]}]
    assert [(each["name"], each["in"]) for each in operation["parameters"]] == [("shelf", "path"), ("wait", "query")]
    statuses = {"202", "400", "401", "403", "404", "409", "413", "415", "421", "422", "429", "503"}
    assert operation["responses"].keys() == statuses
