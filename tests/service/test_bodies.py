"""Bodies of requests: what is not accepted is refused with a reason, which never has a value of the body in it."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from msgspec import Meta, Struct

from services import log
from services.core.accounts.scopes import PersonRole
from services.core.accounts.secret import Secret
from services.web import AppSpec, Content, Endpoint, NoQuery, RequestContext, bind, create_app, openapi_document
from services.web.server import server_config
from tests.api import CoursesReplica
from tests.raw_http import encode_request
from tests.simulator import serve_app
from tests.waiting import eventually

CANARY = "correct-horse-battery"
UNKNOWN_ROLE = "role: there are: admin, trader"


class Address(Struct, forbid_unknown_fields=True):
    """A part of a form."""

    city: str


class Form(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a person fills in."""

    name: Annotated[str, Meta(min_length=1, max_length=20)]
    password: Secret
    role: PersonRole = PersonRole.TRADER
    age: Annotated[int, Meta(ge=1)] | None = None
    address: Address | None = None
    tags: tuple[str, ...] = ()


FORMS = Endpoint(path="/forms", query=NoQuery, method="POST", body=Form, operation_id="forms")


class FormHandler:
    """Takes forms."""

    def __init__(self) -> None:
        self.forms = list[Form]()

    @FORMS.handler
    async def save(self, _query: NoQuery, body: Form, _context: RequestContext) -> Content:
        self.forms.append(body)
        if body.name == "fails":
            raise RuntimeError(f"it cannot be saved: {body}")
        return Content(b"{}")


@pytest.fixture
async def here() -> AsyncIterator[SimpleNamespace]:
    replica, handler = CoursesReplica(), FormHandler()
    async with (
        serve_app(create_app(replica.deps, AppSpec([], bind(handler))), server_config) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        yield SimpleNamespace(client=client, forms=handler.forms, address=address)


def form(**fields: Any) -> bytes:
    return json.dumps({"name": "ann", "password": CANARY, **fields}).encode()


def raw(text: str) -> bytes:
    return b'{"name":"ann","password":"%s",%s}' % (CANARY.encode(), text.encode())


async def test_a_body_is_parsed_and_its_secret_stays_hidden(here: SimpleNamespace) -> None:
    response = await here.client.post("/forms", content=form(age=7, role="admin"), headers=JSON)
    assert response.status_code == 200, response.text
    (saved,) = here.forms
    assert (saved.name, saved.age, saved.role, saved.password.reveal()) == ("ann", 7, PersonRole.ADMIN, CANARY)
    assert CANARY not in repr(saved)


JSON = {"content-type": "application/json; charset=utf-8"}
GZIP = JSON | {"content-encoding": "gzip"}
REFUSED: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "form": (b"name=ann", {"content-type": "application/x-www-form-urlencoded"}, 415, "must be application/json"),
    "no type": (form(), {}, 415, "must be application/json"),
    "compressed": (gzip.compress(form()), GZIP, 415, "must not be compressed"),
    "bomb": (gzip.compress(b" " * 10_000_000), GZIP, 415, "must not be compressed"),
    "empty": (b"", JSON, 400, "the body is not JSON"),
    "null": (b"null", JSON, 400, "expected object, got null"),
    "array": (b"[]", JSON, 400, "expected object, got array"),
    "cut": (form()[:-1], JSON, 400, "the body is not JSON"),
    "trailing": (form() + b"x", JSON, 400, "the body is not JSON"),
    "twice": (raw('"name":"bob"'), JSON, 400, "'name' is there twice"),
    "twice below": (raw('"address":{"city":"a","city":"b"}'), JSON, 400, "'city' is there twice"),
    "deep": (b"[" * 30_000 + b"]" * 30_000, JSON, 400, "nested too deeply"),
    "deep below": (raw('"tags":' + '{"a":' * 5_000 + "1" + "}" * 5_000), JSON, 400, "nested too deeply"),
    "UTF-16": (form().decode().encode("utf-16"), JSON, 400, "not UTF-8"),
    "bad UTF-8": (raw('"x":"?"').replace(b"?", b"\xff"), JSON, 400, "not UTF-8"),
    "BOM": (b"\xef\xbb\xbf" + form(), JSON, 400, "not JSON"),
    "NUL": (form(name="an\0n"), JSON, 400, "U+0000"),
    "NUL in a secret": (form(password="\\" + CANARY + "\0"), JSON, 400, "U+0000"),
    "surrogate": (form(name="\ud800" + CANARY), JSON, 400, "not JSON"),
    "NaN": (raw('"age":NaN'), JSON, 400, "NaN is not a number"),
    "infinite": (raw('"age":-Infinity'), JSON, 400, "-Infinity is not a number"),
    "huge exponent": (raw('"age":1e999'), JSON, 400, "age: number out of range"),
    "huge number": (raw('"age":' + "9" * 30_000), JSON, 400, "age: integer value out of range"),
    "text for a number": (form(age="7"), JSON, 400, "age: expected int | null, got str"),
    "number for a text": (form(name=7), JSON, 400, "name: expected str, got int"),
    "number for a secret": (form(password=7), JSON, 400, "password: expected str, got int"),
    "null for a secret": (form(password=None), JSON, 400, "password: expected str, got null"),
    "bool for a number": (form(age=True), JSON, 400, "age: expected int | null, got bool"),
    "missing": (b'{"name":"ann"}', JSON, 400, "password is missing"),
    "missing below": (form(address={}), JSON, 400, "address.city is missing"),
    "too long": (form(name=CANARY), JSON, 400, "name: expected str of length <= 20"),
    "out of range": (form(age=0), JSON, 400, "age: expected int >= 1"),
    "enum": (form(role=CANARY), JSON, 400, UNKNOWN_ROLE),
    "mass assignment": (form(id="1", is_admin=True), JSON, 400, "no field 'id'; there are: name, password, role"),
    "typo": (form(pasword="x"), JSON, 400, "no field 'pasword'; did you mean password?"),
    "unknown below": (form(address={CANARY: 1}), JSON, 400, "address: it has a field that does not exist"),
    "long unknown": (form(**{"x" * 30_000: 1}), JSON, 400, "no field of that name; there are: name"),
    "secret as a name": (form(**{CANARY + "!": 1}), JSON, 400, "no field of that name"),
    "secret as a name, twice": (raw(f'"{CANARY}!":1,"{CANARY}!":2'), JSON, 400, "a field is there twice"),
    "too large": (form(name="x" * 70_000), JSON, 413, "longer than 65536 bytes"),
    "array's member": (form(tags=["a", 1]), JSON, 400, "tags[1]: expected str, got int"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_body_is_refused_with_a_reason_and_without_its_values(
    here: SimpleNamespace, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    content, headers, status, detail = REFUSED[case]
    response = await here.client.post("/forms", content=content, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert detail in response.json()["detail"]
    assert len(response.content) < 1_000
    assert not here.forms
    shown = response.text + str(response.headers) + caplog.text
    assert not any(part in shown for part in (CANARY, CANARY[:9], CANARY[-9:]))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    if "gzip" in headers.values():
        assert response.headers["accept-encoding"] == "identity"


async def test_what_looks_like_nul_is_accepted(here: SimpleNamespace) -> None:
    assert (await here.client.post("/forms", content=form(name=r"a\u0000\\u0000"), headers=JSON)).status_code == 200
    assert here.forms[0].name == r"a\u0000\\u0000"


async def test_a_body_without_a_length_has_a_limit(here: SimpleNamespace) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    try:
        response = await here.client.post("/forms", content=parts(), headers=JSON)
    except httpx.TransportError:  # closed over what was still being sent
        return
    assert response.status_code == 413


async def test_a_client_that_leaves_within_its_body_is_no_failure(
    here: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    head = encode_request("POST /forms HTTP/1.1", Content_Type="application/json", Content_Length="100")
    _, writer = await asyncio.open_connection(*here.address.split(":"))
    writer.write(head + b'{"name"')
    await writer.drain()
    writer.close()
    await eventually(lambda: "POST /forms 408" in caplog.text)
    assert (await here.client.post("/forms", content=form(), headers=JSON)).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_failure_logs_no_secret(here: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    response = await here.client.post("/forms", content=form(name="fails"), headers=JSON)
    assert response.status_code == 500
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    log.Redaction().filter(record)
    assert "it cannot be saved" in str(record.exc_text)
    assert CANARY not in str(record.exc_text) + response.text


def test_a_body_is_described_with_its_secret() -> None:
    schemas = openapi_document([], [FORMS])["components"]["schemas"]
    assert schemas["Form"]["properties"]["password"] == {"type": "string", "format": "password", "writeOnly": True}
    assert schemas["Form"]["additionalProperties"] is False
    with pytest.raises(ValueError, match="forbid_unknown_fields"):
        Endpoint(path="/x", query=NoQuery, method="POST", body=type("Loose", (Struct,), {}))
