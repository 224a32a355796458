"""Invitations, admins and the command line, on both databases."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.adapters.clock import SystemClock
from services.api.accounts.authentication import CACHE_MS
from services.api.accounts.first_admin import JUST_PRINTED_MS, print_first_admin_code
from services.command_line import parse_command, run_command
from services.core.accounts.token_format import TokenType, check_token
from services.core.errors import BadRange, Conflict, UnknownName
from services.settings import Settings
from tests.people import PASSWORD, PeopleReplica, PeopleSystem, people_system

CODE = re.compile(r"kurs_i_\w+")


@pytest.fixture
async def system(database: str) -> AsyncIterator[PeopleSystem]:
    async with people_system(database) as system:
        yield system


@pytest.fixture
def kurs(system: PeopleSystem) -> PeopleReplica:
    return system.replica()


async def admin_token(kurs: PeopleReplica, name: str = "root") -> str:
    await kurs.register(name)
    await kurs.promote(name)
    return str((await kurs.sign_in(name))["access_token"])


async def invite(kurs: PeopleReplica, admin: str, **body: Any) -> Any:
    response = await kurs.request("POST", "/v1/invitations", admin, json=body)
    assert response.status_code == 201, response.text
    return response.json()


async def refusal(kurs: PeopleReplica, **body: Any) -> tuple[int, str]:
    response = await kurs.request("POST", "/v1/persons", json={"name": "bob", "password": PASSWORD, **body})
    return response.status_code, response.json()["detail"]


async def kurs_persons(database: str, *words: str, password: str = "") -> int:
    """Run `kurs persons …` with a password on standard input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        command = parse_command("persons", words)
    return await run_command(Settings(_env_file=None, database_url=database, market="live"), command)


async def test_invited_person_registers_once_with_the_role_of_the_invitation(system: PeopleSystem) -> None:
    kurs = system.replica()
    admin = await admin_token(kurs)
    asking = system.replica(registration="invitation")
    status, detail = await refusal(asking)
    assert (status, "kurs persons invite" in detail) == (403, True)
    made = await invite(kurs, admin, role="admin")
    code = made.pop("code")
    assert check_token(code) is TokenType.INVITATION
    listed = await kurs.request("GET", "/v1/invitations", admin)
    assert (listed.json(), code in listed.text) == ({"invitations": [made]}, False)
    bodies = [{"name": f"bob{number}", "password": PASSWORD, "invitation": code} for number in range(5)]
    responses = await asyncio.gather(*(asking.request("POST", "/v1/persons", json=body) for body in bodies))
    assert sorted(response.status_code for response in responses) == [201, 403, 403, 403, 403]
    people = (await kurs.request("GET", "/v1/persons", admin)).json()["persons"]
    assert [each["role"] for each in people] == ["admin", "admin"]
    assert (await kurs.request("GET", "/v1/invitations", admin)).json() == {"invitations": []}
    registered = [event for event in await kurs.audit() if event.action == "registered"]
    assert registered[-1].detail == {"role": "admin", "invitation": made["id"]}
    assert [event.action for event in await kurs.audit()].count("invited") == 1


async def test_invitation_expires_and_must_be_one(system: PeopleSystem) -> None:
    kurs = system.replica()
    code = (await invite(kurs, await admin_token(kurs), expires_in=60))["code"]
    assert (await refusal(kurs, invitation=code[:-1] + ("a" if code[-1] != "a" else "b")))[0] == 422
    system.clock.time += 60_000
    assert await refusal(kurs, invitation=code) == (
        403,
        "the invitation has been used, or has expired: get another one",
    )
    await kurs.register("bob")  # it is open


async def test_closed_registration_accepts_codes_of_the_operator_alone(
    system: PeopleSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    kurs, closed = system.replica(), system.replica(registration="closed")
    admin = await admin_token(kurs)
    code = (await invite(kurs, admin))["code"]
    status, detail = await refusal(closed, invitation=code)
    assert (status, "only invitations of the operator" in detail) == (403, True)
    assert (await closed.request("POST", "/v1/invitations", admin, json={})).status_code == 409
    assert await kurs_persons(system.database, "invite") == 0
    system.clock.time = SystemClock().now()  # the command's
    await closed.register("cyd", invitation=CODE.findall(capsys.readouterr().out)[0])


async def test_admin_lists_disables_and_enables_people(system: PeopleSystem) -> None:
    kurs, other = system.replica(), system.replica()
    admin = await admin_token(kurs)
    names = [f"person{number}" for number in range(5)]
    people = {name: await kurs.register(name) for name in names}
    signed_in = await kurs.sign_in("person0")
    bob = signed_in["access_token"]
    assert await other.status(bob) == 200
    for path in ("/v1/persons", "/v1/invitations"):
        response = await kurs.request("GET", path, bob)
        assert (response.status_code, "allows `admin`" in response.json()["detail"]) == (403, True)
    seen, cursor = list[str](), ""
    while True:
        page = (await kurs.request("GET", f"/v1/persons?limit=2&cursor={cursor}", admin)).json()
        seen += [each["name"] for each in page["persons"]]
        if (cursor := page["next"]) is None:
            break
    assert (sorted(seen), len(seen)) == (sorted(["root", *names]), 6)
    path = f"/v1/persons/{people['person0']['id']}"
    for _ in range(2):
        response = await kurs.request("POST", f"{path}/disable", admin)
        assert (response.status_code, response.json()["state"]) == (200, "disabled")
    assert (await kurs.refresh(signed_in["refresh_token"])).status_code == 401
    assert await kurs.status(bob) == 401
    system.clock.time += CACHE_MS
    assert await other.status(bob) == 401
    wrong = await kurs.request("POST", "/v1/sign-in", json={"name": "person0", "password": "wrong"})
    right = await kurs.request("POST", "/v1/sign-in", json={"name": "person0", "password": PASSWORD})
    assert (wrong.status_code, right.status_code, right.json()["detail"][:19]) == (401, 403, "person0 is disabled")
    assert (await kurs.request("POST", f"{path}/enable", admin)).json()["state"] == "active"
    await kurs.sign_in("person0")
    actions = [event.action for event in await kurs.audit()]
    assert (actions.count("person_disabled"), actions.count("person_enabled")) == (1, 1)


async def test_admin_disables_neither_oneself_nor_an_unknown_person(kurs: PeopleReplica) -> None:
    admin = await admin_token(kurs)
    own = (await kurs.request("GET", "/v1/me", admin)).json()["id"]
    response = await kurs.request("POST", f"/v1/persons/{own}/disable", admin)
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    for action in ("disable", "enable"):
        assert (await kurs.request("POST", f"/v1/persons/unknown/{action}", admin)).status_code == 404
    assert await kurs.status(admin) == 200


async def printed(*replicas: PeopleReplica, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The codes that replicas print which start at the same time."""
    await asyncio.gather(*(print_first_admin_code(each.deps) for each in replicas))
    return CODE.findall(capsys.readouterr().err)


async def test_first_admin_registers_with_a_printed_code(
    system: PeopleSystem, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    kurs = system.replica(registration="closed")
    (first,) = await printed(kurs, capsys=capsys)
    (second,) = await printed(kurs, capsys=capsys)
    assert first not in caplog.text
    assert (await refusal(kurs, invitation=first))[0] == 403  # made at an earlier start
    assert (await kurs.register("root", invitation=second))["role"] == "admin"
    assert (await refusal(kurs, invitation=second))[0] == 403
    assert await printed(kurs, capsys=capsys) == []
    events = await kurs.audit()
    assert [event.action for event in events] == ["invited", "invited", "registered"]
    assert events[-1].detail == {"role": "admin", "invitation": "first-admin"}


async def test_replicas_that_start_at_once_print_one_code(
    system: PeopleSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    split = {"rabbitmq_url": Settings(_env_file=None, rabbitmq_url="amqp://rabbit").rabbitmq_url}
    replicas = [system.replica(registration="closed", **split) for _ in range(5)]
    for _ in range(2):
        (code,) = await printed(*replicas, capsys=capsys)
        system.clock.time += JUST_PRINTED_MS + 1
    await replicas[0].register("root", invitation=code)


async def test_operator_adds_lists_disables_and_resets_people(
    system: PeopleSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    kurs, url = system.replica(), system.database
    assert await kurs_persons(url, "add", "Root", "--admin", password=PASSWORD) == 0
    assert await kurs_persons(url, "add", "ann", password=PASSWORD) == 0
    capsys.readouterr()
    assert await kurs_persons(url, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:4] for line in lines[:2]] == [["admin", "active", "root"], ["trader", "active", "ann"]]
    assert lines[2] == "2 persons"
    await kurs.sign_in("root")
    signed_in = await kurs.sign_in("ann")
    assert await kurs_persons(url, "disable", "ann") == await kurs_persons(url, "disable", "ann") == 0
    assert (await kurs.refresh(signed_in["refresh_token"])).status_code == 401
    assert await kurs_persons(url, "enable", "ann") == 0
    signed_in = await kurs.sign_in("ann")
    assert await kurs_persons(url, "reset", "ANN", password="another horse, another battery") == 0
    assert (await kurs.refresh(signed_in["refresh_token"])).status_code == 401
    await kurs.sign_in("ann", "another horse, another battery")
    assert PASSWORD not in capsys.readouterr().out
    events = [(event.action, event.actor) for event in await kurs.audit() if event.actor in ("operator", "")]
    actions = ["registered", "registered", "person_disabled", "person_enabled", "password_reset"]
    assert events == [(action, "operator") for action in actions]


@pytest.mark.parametrize(
    ("words", "password", "error"),
    [
        (["add", "ann"], PASSWORD, Conflict),
        (["add", "bob"], "short", BadRange),
        (["add", "bob"], "", BadRange),
        (["add", "b"], PASSWORD, BadRange),
        (["reset", "bob"], PASSWORD, UnknownName),
        (["disable", "bob"], "", UnknownName),
        (["add", "bob", PASSWORD], PASSWORD, SystemExit),
        ([], "", SystemExit),
    ],
)
async def test_operator_is_refused_what_is_not_possible(
    sqlite: str, words: list[str], password: str, error: type[BaseException]
) -> None:
    async with people_system(sqlite) as system:
        kurs = system.replica()
        await kurs.register()
        with pytest.raises(error):
            await kurs_persons(sqlite, *words, password=password)
        assert len(await kurs.audit()) == 1
