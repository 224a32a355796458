"""Hostile values and clocks at the endpoints of people."""

import unicodedata
from collections.abc import AsyncIterator

import pytest

from services.core.accounts.audit import Outcome
from tests.people import PASSWORD, PeopleReplica, PeopleSystem, people_system

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SAME_NAMES = ["ANN", "Ann", "\uff41\uff4e\uff4e", "\U0001d41a\U0001d427\U0001d427", "\u24b6\u24c3\u24c3", "an\u207f"]
OTHER_NAMES = {
    "\u0430nn": "a Cyrillic letter",
    "ann\u200b": "a space of no width",
    "ann\u202e": "a mark that turns the direction",
    "\xe1nn": "an accent",
    "a\u0301nn": "an accent as a character of its own",
    "ann\r\nset-cookie: a=b": "a header",
    "ann\n": "a line feed",
    "ann\x1b[2J": "an order to a terminal",
    "ann\x7f": "a deletion",
    " ann": "a space before",
    "ann ": "a space behind",
    "a n n": "spaces between",
    "../ann": "a path",
    "ann/../bob": "a path within",
    "<b>ann</b>": "HTML",
    "ann'--": "SQL",
    "${ann}": "a template",
    "%00ann": "an escaped NUL",
    "ann😀": "a picture",
    "\u0131nn": "a letter that folds to no other",
    "": "nothing",
    "a" * 65: "many letters",
    "a" * 60_000: "a body full of letters",
    "ﷺ" * 10_000: "characters that become eighteen each",
}


@pytest.fixture
async def system(sqlite: str) -> AsyncIterator[PeopleSystem]:
    async with people_system(sqlite) as system:
        yield system


@pytest.fixture
def kurs(system: PeopleSystem) -> PeopleReplica:
    return system.replica()


async def test_names_that_look_alike_are_one_name_or_none(kurs: PeopleReplica) -> None:
    """A person cannot register with a name that looks like another person's."""
    person = await kurs.register("ann")
    for name in SAME_NAMES:
        response = await kurs.request("POST", "/v1/persons", json={"name": name, "password": PASSWORD})
        assert response.status_code == 409, unicodedata.name(name[0])
        assert (await kurs.sign_in(name))["person"]["id"] == person["id"]
    unknown = (await kurs.request("POST", "/v1/sign-in", json={"name": "bob", "password": PASSWORD})).json()["detail"]
    for name, what in OTHER_NAMES.items():
        response = await kurs.request("POST", "/v1/persons", json={"name": name, "password": PASSWORD})
        assert response.status_code == 422, what
        assert len(response.content) < 1_000
        response = await kurs.request("POST", "/v1/sign-in", json={"name": name, "password": PASSWORD})
        assert response.status_code == 429 or response.json()["detail"] == unknown, what  # guesses are slowed down


@pytest.mark.parametrize("length", [1_000, 1_001, 60_000])
async def test_passwords_have_a_length(kurs: PeopleReplica, length: int) -> None:
    """A password of characters that NFKC makes longer is measured afterwards, and none of any length is an error."""
    for letters in ("abcdefghi xyz", "ﷺ ﷻ ab"):
        password = (letters * length)[:length]
        body = {"name": f"a{len(letters)}{length}", "password": password}
        if len(password.encode()) > 64_000:
            continue
        response = await kurs.request("POST", "/v1/persons", json=body)
        fits = len(unicodedata.normalize("NFKC", password)) <= 1_000
        assert response.status_code == (201 if fits else 422), response.text
        response = await kurs.request("POST", "/v1/sign-in", json=body)
        assert response.status_code == (200 if fits else 401), response.text


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5_000,
        "%2e%2e%2f" * 200,
        "é" * 500,
        "a%0d%0ab",
        "%F0%9F%98%80",
        "-1",
        "null",
        "*",
        "' OR 1=1 --",
        "%25s%25n",
    ],
)
async def test_ids_of_any_form_are_unknown(kurs: PeopleReplica, value: str) -> None:
    token = await kurs.access()
    for path in ("/v1/api-tokens", "/v1/sign-ins"):
        response = await kurs.request("DELETE", f"{path}/{value}", token)
        assert response.status_code == 404, response.text
        assert len(response.content) < 20_000
    assert await kurs.status(token) == 200
    assert (await kurs.request("DELETE", "/v1/api-tokens/a%00b", token)).status_code == 400


@pytest.mark.parametrize(
    "agent",
    ["x" * 10_000, "a\tb", "\x1b[2J", "ÿþ", '"}{"level":"ERROR"', "${jndi:ldap://x}", "%s%n", "kurs_p_" + "a" * 36],
)
async def test_agents_are_stored_as_text_of_one_line(kurs: PeopleReplica, agent: str) -> None:
    await kurs.register()
    headers = {"user-agent": agent.encode("latin-1"), "x-request-id": "a\tb"}
    body = {"name": "ann", "password": PASSWORD}
    signed_in = (await kurs.request("POST", "/v1/sign-in", json=body, headers=headers)).json()
    sign_ins = (await kurs.request("GET", "/v1/sign-ins", signed_in["access_token"])).json()["sign_ins"]
    event = (await kurs.audit())[-1]
    for stored in (sign_ins[0]["agent"], event.agent):
        assert len(stored) <= 200
        assert stored.isprintable()


@pytest.mark.parametrize("name", ["a\r\nb", "\u202egnp", "a\x00b", " ", "\u200b", "x" * 101])
async def test_names_of_tokens_can_be_read(kurs: PeopleReplica, name: str) -> None:
    token = await kurs.access()
    response = await kurs.request("POST", "/v1/api-tokens", token, json={"name": name, "scopes": ["read"]})
    assert response.status_code in (400, 422), response.text


async def refused(kurs: PeopleReplica, token: str) -> bool:
    return await kurs.status(token) == 401


async def test_clock_that_jumps_ahead_and_back_ends_nothing_for_good(system: PeopleSystem, kurs: PeopleReplica) -> None:
    """A wrong clock refuses tokens as long as it is wrong. It must not make a valid refresh token look stolen."""
    started, signed_in = kurs.clock.time, (await kurs.register() and await kurs.sign_in())
    access, refresh_token = signed_in["access_token"], signed_in["refresh_token"]
    made = await kurs.request("POST", "/v1/api-tokens", access, json={"name": "x", "scopes": ["read"]})
    program = made.json()["token"]
    for jump in (400 * DAY, -400 * DAY, 31 * DAY, -2 * HOUR, 5 * MINUTE):
        kurs.clock.time = started + jump
        await refused(kurs, access)
        await kurs.status(program)
        if abs(jump) >= 31 * DAY and jump > 0:
            assert (await kurs.refresh(refresh_token)).status_code == 401, jump
            assert await refused(kurs, access)
    kurs.clock.time = started + MINUTE
    assert await kurs.status(access) == 200
    assert await kurs.status(program) == 200
    again = await kurs.refresh(refresh_token)
    assert again.status_code == 200, again.text
    assert [event.action for event in await kurs.audit() if event.outcome is Outcome.REFUSED] == []


@pytest.mark.parametrize("jump", [-29 * DAY, -2 * HOUR, -MINUTE, -11_000, MINUTE, 2 * HOUR, 29 * DAY])
async def test_person_stays_signed_in_over_a_jump_by_refreshing(kurs: PeopleReplica, jump: int) -> None:
    """After the clock was set, the refresh token gives tokens of the new time, and each of them once."""
    await kurs.register()
    first = await kurs.sign_in()
    kurs.clock.time += jump
    second = (await kurs.refresh(first["refresh_token"])).json()
    assert await kurs.status(second["access_token"]) == 200
    assert (await kurs.refresh(first["refresh_token"])).json()["refresh_token"] == second["refresh_token"]
    kurs.clock.time += -jump
    third = await kurs.refresh(second["refresh_token"])
    assert third.status_code == 200
    assert await kurs.status(third.json()["access_token"]) == 200
    kurs.clock.time += MINUTE
    assert (await kurs.refresh(first["refresh_token"])).status_code == 401, "a token of the past is a stolen one"
    assert (await kurs.refresh(third.json()["refresh_token"])).status_code == 401


async def test_what_is_no_ticket_opens_nothing(kurs: PeopleReplica) -> None:
    token = await kurs.access()
    ticket = (await kurs.request("POST", "/v1/stream/tickets", token)).json()["ticket"]
    for wrong in (
        ticket[:-1],
        f"{ticket}x",
        ticket.swapcase(),
        token,
        "x" * 1_500,
        "kurs_t_" + "0" * 36,
        "%00",
        "\xff",
    ):
        response = await kurs.request("GET", f"/v1/stream?channels=courses&ticket={wrong}")
        assert response.status_code in (400, 401), response.text
        assert wrong not in response.text
