"""Live streams of people: opened by a ticket or a token, ended with the sign-in, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from services.adapters.sql import accounts
from services.core.accounts.secret_keys import format_key
from services.core.accounts.token_format import RANDOM_BYTES, TokenType, check_token, new_token
from services.key_files import new_key
from tests.api import EventStream, ServedReplica, StreamTestClient, serve_replica
from tests.people import PeopleClient
from tests.stream_messages import candle
from tests.waiting import eventually


@dataclass
class Kurs:
    """A served API with one person that has signed in."""

    served: ServedReplica
    people: PeopleClient
    access: str

    async def ticket(self, token: str = "") -> str:
        response = await self.people.request("POST", "/v1/stream/tickets", token or self.access)
        assert (response.status_code, response.json()["expires_in"]) == (201, 30)
        return str(response.json()["ticket"])

    def socket(self, ticket: str = "", **headers: str) -> websockets.connect:
        url = self.served.socket_url + (f"?ticket={ticket}" if ticket else "")
        return websockets.connect(url, compression=None, additional_headers=headers)

    async def api_token(self) -> str:
        body = {"name": "bot", "scopes": ["read"]}
        return str((await self.people.request("POST", "/v1/api-tokens", self.access, json=body)).json()["token"])


@pytest.fixture
async def kurs(database: str) -> AsyncIterator[Kurs]:
    store = accounts.connect(database)
    async with (
        serve_replica(accounts=store, token_key=format_key(new_key())) as served,
        httpx.AsyncClient(base_url=f"http://{served.address}", timeout=20) as client,
    ):
        people = PeopleClient(client)
        yield Kurs(served, people, await people.access())
    await store.close()


async def refused(connection: websockets.connect) -> int:
    with pytest.raises(InvalidStatus) as error:
        await connection
    return error.value.response.status_code


async def test_ticket_opens_one_socket(kurs: Kurs) -> None:
    ticket = await kurs.ticket()
    assert check_token(ticket) is TokenType.TICKET
    async with kurs.socket(ticket) as connection:
        assert (await StreamTestClient(connection).next())["type"] == "welcome"
        assert await refused(kurs.socket(ticket)) == 401


async def test_of_sockets_that_open_at_once_with_one_ticket_one_is_served(kurs: Kurs) -> None:
    ticket = await kurs.ticket()
    opened = await asyncio.gather(*(kurs.socket(ticket) for _ in range(10)), return_exceptions=True)
    connections = [each for each in opened if not isinstance(each, BaseException)]
    assert len(connections) == 1
    await connections[0].close()


async def test_ticket_opens_one_event_stream(kurs: Kurs) -> None:
    ticket = await kurs.ticket()
    query = {"channels": "candles:BTCUSDT:1m", "ticket": ticket}
    await kurs.served.publish(candle(0, 100))
    async with kurs.people.client.stream("GET", "/v1/stream", params=query) as response:
        assert response.status_code == 200
        assert (await EventStream(response).next()).name == "candles:BTCUSDT:1m"
        again = await kurs.people.client.get("/v1/stream", params=query)
        assert (again.status_code, again.json()["code"]) == (401, "unauthenticated")
        assert ticket not in again.text


async def test_wrong_channel_uses_no_ticket_up(kurs: Kurs) -> None:
    ticket = await kurs.ticket()
    wrong = await kurs.people.client.get("/v1/stream", params={"channels": "conection", "ticket": ticket})
    assert wrong.status_code == 422
    async with kurs.socket(ticket):
        pass


async def test_what_is_no_ticket_opens_no_stream(kurs: Kurs) -> None:
    invented = new_token(TokenType.TICKET, bytes(RANDOM_BYTES))
    for ticket in (invented, invented[:-1], kurs.access, await kurs.api_token(), "x"):
        assert await refused(kurs.socket(ticket)) == 401
        query = {"channels": "courses", "ticket": ticket}
        assert (await kurs.people.client.get("/v1/stream", params=query)).status_code == 401
    async with kurs.socket():
        pass  # an anonymous client


async def test_socket_without_origin_is_opened_by_a_token_in_the_header(kurs: Kurs) -> None:
    for token in (kurs.access, await kurs.api_token()):
        async with kurs.socket(Authorization=f"Bearer {token}") as connection:
            assert "Origin" not in (connection.request.headers if connection.request else {})
            assert (await StreamTestClient(connection).next())["type"] == "welcome"
    assert await refused(kurs.socket(Authorization=f"Bearer {kurs.access}x")) == 401


async def test_streams_of_a_person_end_with_the_sign_in_and_others_go_on(kurs: Kurs) -> None:
    async with (
        kurs.socket(await kurs.ticket()) as by_ticket,
        kurs.socket(Authorization=f"Bearer {kurs.access}") as by_header,
        kurs.socket(await kurs.ticket(await kurs.api_token())) as of_program,
        kurs.socket() as anonymous,
        kurs.people.client.stream(
            "GET", "/v1/stream", params={"channels": "connection", "ticket": await kurs.ticket()}
        ) as events,
    ):
        assert (await kurs.people.request("DELETE", "/v1/sign-in", kurs.access)).status_code == 204
        assert [await StreamTestClient(each).close_code() for each in (by_ticket, by_header)] == [4401, 4401]
        stream = EventStream(events)
        while (event := await stream.next()).name != "closing":
            pass
        assert event.data == {"reason": "the sign-in or the API token has ended"}
        for each in (of_program, anonymous):
            client = StreamTestClient(each)
            await client.send(action="ping")
            await client.next("pong")
    await eventually(lambda: kurs.served.stream_clients == 0)


async def test_stream_of_a_program_ends_with_its_token(kurs: Kurs) -> None:
    token = await kurs.api_token()
    async with kurs.socket(await kurs.ticket(token)) as connection:
        (row,) = (await kurs.people.request("GET", "/v1/api-tokens", kurs.access)).json()["api_tokens"]
        await kurs.people.request("DELETE", f"/v1/api-tokens/{row['id']}", kurs.access)
        assert await StreamTestClient(connection).close_code() == 4401
