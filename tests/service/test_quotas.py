"""Quotas over HTTP: which requests are counted together, for which client, and what a client is sent about it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from services import api
from services.adapters.memory import MemoryCache
from services.api.accounts import password_hasher, sign_in_throttle
from services.core.errors import Unauthenticated, Unavailable
from services.core.quotas import AttemptRule, AttemptState
from services.web import AppSpec, Caller, Content, Endpoint, NoQuery, RequestContext, TokenKind, Ttl, bind, create_app
from services.web.openapi import openapi_document
from services.web.quota_policies import POLICIES, SIGN_IN, TICKETS, policy_table
from services.web.rate_limiter import ClientRateLimiter
from services.web.server import server_config
from tests.api import CoursesReplica
from tests.clocks import ManualClock
from tests.people import PASSWORD, PeopleReplica, people_system
from tests.simulator import serve_app

QUOTA_HEADERS = ("ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
WRONG = "wrong horse battery staple"
COSTLY = Endpoint(path="/v1/costly", query=NoQuery, cost=5)
UNCHANGED = Endpoint(path="/v1/unchanged", query=NoQuery, cache=Ttl(1, max_entries=1))
OWN = Endpoint(path="/v1/own/{id}", query=NoQuery, limit=TICKETS, method="POST")
TRIED = Endpoint(path="/v1/tried", query=NoQuery, limit=SIGN_IN, method="POST")


class Handlers:
    """Endpoints that cost more, never change, and are strict."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    @COSTLY.handler
    async def costly(self, _query: NoQuery) -> Content:
        return Content(b"{}")

    @UNCHANGED.handler
    async def unchanged(self, _query: NoQuery) -> Content:
        return Content(b"{}")

    @OWN.handler
    async def own(self, _query: NoQuery, _context: RequestContext) -> Content:
        return Content(b"{}")

    @TRIED.handler
    async def tried(self, _query: NoQuery, _context: RequestContext) -> Content:
        if self.error:
            raise self.error
        return Content(b"{}")


class NamesAsTokens:
    """Callers by their names: small ones are cached, capital ones have to be looked up."""

    def cached(self, token: str) -> Caller | None:
        return Caller(token, token, TokenKind.ACCESS, frozenset(), "1") if token.islower() else None

    async def caller(self, token: str) -> Caller:
        await asyncio.sleep(0)
        if not token.isalpha():
            raise Unauthenticated("this is no name")
        return Caller(token.lower(), token, TokenKind.API, frozenset(), "1")


class FailingCache(MemoryCache):
    """A cache that does not respond while `down`."""

    down = False

    async def attempt(self, rules: Any) -> dict[str, AttemptState]:
        if self.down:
            raise Unavailable("down")
        return await super().attempt(rules)


class Replica:
    """A replica with quotas; several share a cache and a clock."""

    def __init__(self, first: "Replica | None" = None, **settings: Any) -> None:
        self.courses = CoursesReplica(**settings)
        self.clock: ManualClock = first.clock if first else self.courses.clock
        self.cache: FailingCache = first.cache if first else FailingCache(lambda: self.clock.time / 1000)
        self.limiter = ClientRateLimiter(settings=self.courses.settings, clock=self.clock, cache=self.cache)
        self.handlers = Handlers()
        endpoints = [*api.endpoints(self.courses.deps), *bind(self.handlers)]
        spec = AppSpec(api.ROUTERS, endpoints, limiter=self.limiter, authenticator=NamesAsTokens())
        self.app = create_app(self.courses.deps, spec)
        self.courses.publish_quotes("binance", "coingecko")

    async def get(self, path: str, token: str = "", address: str = "192.0.2.1", **options: Any) -> httpx.Response:
        """Send a request from an address, with a bearer token."""
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            method, headers = options.pop("method", "GET"), headers | options.pop("headers", {})
            return await client.request(method, path, headers=headers, **options)

    async def statuses(self, path: str, count: int, **options: Any) -> list[int]:
        return [(await self.get(path, **options)).status_code for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "setting", "policy"),
    [
        ("/api/timeframes", "api_rate_limit", "api"),
        ("/v1/timeframes", "api_rate_limit", "api"),
        ("/v1/costly", "api_rate_limit", "api"),
        ("/api/nothing", "api_rate_limit", "api"),
        ("/v1/analysis/BTCUSDT/multi", "api_rate_limit", "api"),
        ("/v1/courses", "courses_rate_limit", "courses"),
        ("/courses?direction=BTC-USD", "courses_rate_limit", "courses"),
        ("/v2/courses", "courses_rate_limit", "courses"),
        ("/v1/exchanges", "courses_rate_limit", "courses"),
        ("/udf/config", "udf_rate_limit", "udf"),
        ("/v1/stream?channels=btc_xyz", "stream_rate_limit", "streams"),
        ("/docs", "page_rate_limit", "pages"),
        ("/", "page_rate_limit", "pages"),
        ("/nothing", "page_rate_limit", "pages"),
    ],
)
async def test_each_group_of_paths_has_a_quota_of_its_own(path: str, setting: str, policy: str) -> None:
    replica = Replica(None, **{"api_rate_limit": 0, setting: 10})
    cost = 5 if path == "/v1/costly" else 1
    first = await replica.get(path)
    assert first.status_code != 429
    assert first.headers["ratelimit-policy"] == f'"{policy}";q=10;w=60'
    assert first.headers["ratelimit"] == f'"{policy}";r={10 - cost};t=61'
    assert [first.headers[f"x-ratelimit-{each}"] for each in ("limit", "remaining", "reset")] == [
        "10",
        str(10 - cost),
        "61",
    ]
    replica.clock.time += 20_000
    assert 429 not in await replica.statuses(path, 10 // cost - 1)
    refused = await replica.get(path)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["violated-policies"]) == (429, "quota-exceeded", [policy])
    assert problem["type"].endswith("#quota-exceeded")
    assert (refused.headers["retry-after"], refused.headers["ratelimit"]) == ("41", f'"{policy}";r=0;t=41')
    assert refused.headers["cache-control"] == "no-store"
    for other in ("/api/timeframes", "/v1/courses", "/udf/config", "/docs"):
        response = await replica.get(other)
        assert (response.status_code == 429) == (response.headers.get("ratelimit-policy", "").startswith(f'"{policy}"'))
    assert (await replica.get(path, address="192.0.2.2")).status_code != 429
    replica.clock.time += 41_000
    assert (await replica.get(path)).status_code != 429


async def test_by_default_only_the_api_is_limited() -> None:
    """To 100 requests a minute and address, under both of its names."""
    replica = Replica()
    for path in ("/v1/courses", "/v2/courses", "/v1/exchanges", "/udf/config", "/docs", "/nothing"):
        response = await replica.get(path)
        assert not any(name in response.headers for name in QUOTA_HEADERS)
        assert 429 not in await replica.statuses(path, 120)
    assert 429 not in await replica.statuses("/api/timeframes", 60) + await replica.statuses("/v1/timeframes", 40)
    assert await replica.statuses("/api/timeframes", 2) == await replica.statuses("/v1/timeframes", 2) == [429, 429]


async def test_what_costs_nothing_is_not_counted() -> None:
    replica = Replica(api_rate_limit=3, courses_rate_limit=3, page_rate_limit=1)
    for path in ("/v1/courses", "/v1/unchanged"):  # sent from the cache, and computed again
        first = await replica.get(path)
        for _ in range(10):
            replica.clock.time += 2
            same = await replica.get(path, headers={"if-none-match": first.headers["etag"]})
            assert (same.status_code, same.headers["x-ratelimit-remaining"]) == (304, "2")
    preflight = {"origin": "http://localhost:5173", "access-control-request-method": "GET"}
    for _ in range(10):
        response = await replica.get("/api/timeframes", method="OPTIONS", headers=preflight)
        assert (response.status_code, "ratelimit" in response.headers) == (200, False)
        for path in ("/livez", "/readyz", "/metrics"):
            response = await replica.get(path)
            assert (response.status_code == 429, "ratelimit" in response.headers) == (False, False)
    assert (await replica.get("/v1/courses", method="HEAD")).headers["x-ratelimit-remaining"] == "1"


async def test_any_etag_is_no_proof_of_a_response_and_costs() -> None:
    replica = Replica(api_rate_limit=3)
    for left in "210":
        replica.clock.time += 2
        response = await replica.get("/v1/unchanged", headers={"if-none-match": "*"})
        assert (response.status_code, response.headers["x-ratelimit-remaining"]) == (304, left)


async def test_callers_are_counted_by_person_wherever_they_are() -> None:
    """Where an address is not limited, a person is not either."""
    replica = Replica(api_rate_limit=2, person_rate_limit=6)
    statuses = []
    for number in range(8):
        token, address = ("ann", "Ann")[number % 2], f"192.0.2.{number}"
        response = await replica.get(("/api/timeframes", "/v1/unchanged")[number % 2], token, address)
        statuses.append(response.status_code)
        assert response.headers["ratelimit-policy"] == '"person";q=6;w=60'
    assert statuses == [200] * 6 + [429] * 2
    assert await replica.statuses("/api/timeframes", 3, token="bob") == [200] * 3
    assert await replica.statuses("/api/timeframes", 3) == [200, 200, 429]
    response = await replica.get("/v1/courses", "ann")
    assert (response.status_code, "ratelimit" in response.headers) == (200, False)


async def test_invalid_tokens_count_for_their_address() -> None:
    """Also of many that are sent at once, before the first is checked. Known callers are served all the same."""
    replica = Replica(unauthenticated_rate_limit=5)
    paths = ("/v1/courses", "/api/timeframes", "/nothing")
    responses = await asyncio.gather(*(replica.get(paths[number % 3], "123") for number in range(20)))
    statuses = [response.status_code for response in responses]
    assert (statuses.count(401), statuses.count(429)) == (5, 15)
    refused = responses[statuses.index(429)]
    assert refused.json()["violated-policies"] == ["unauthenticated"]
    assert "ratelimit" in responses[statuses.index(401)].headers
    assert await replica.statuses("/api/timeframes", 3, token="ann") == [200] * 3
    assert await replica.statuses("/api/timeframes", 3) == [200] * 3
    assert (await replica.get("/api/timeframes", "Ann")).status_code == 429  # it would have to be looked up
    assert (await replica.get("/api/timeframes", "Ann", "192.0.2.2")).status_code == 200
    assert await replica.statuses("/api/timeframes", 10, token="Ann", address="192.0.2.2") == [200] * 10
    replica.clock.time += 61_000
    assert (await replica.get("/api/timeframes", "123")).status_code == 401


async def test_strict_policy_is_decided_by_all_replicas_together() -> None:
    """Of forty attempts at once, at two replicas, ten are made. Without the cache it is ten at each."""
    first = Replica(sign_in_rate_limit=10)
    replicas = [first, Replica(first, sign_in_rate_limit=10)]
    for down, expected in ((False, 10), (True, 20)):
        first.cache.down = down
        sent = [replicas[number % 2].get("/v1/tried", method="POST") for number in range(40)]
        responses = await asyncio.gather(*sent)
        statuses = [response.status_code for response in responses]
        assert (statuses.count(200), statuses.count(429)) == (expected, 40 - expected)
        refused = responses[statuses.index(429)]
        assert (refused.json()["violated-policies"], refused.headers["retry-after"]) == (["sign-in"], "61")
        assert responses[statuses.index(200)].headers["ratelimit-policy"] == '"sign-in";q=10;w=60'
        assert (await first.get("/v1/tried", method="POST", address="192.0.2.2")).status_code == 200
        first.clock.time += 61_000


async def test_failed_attempts_make_an_address_wait_longer_each_time() -> None:
    """Successes, and failures of Kurs itself, do not. They are forgiven one a minute."""
    replica, limit, minute = Replica(sign_in_rate_limit=10), 10, 60_000

    async def attempt(error: Exception | None) -> httpx.Response:
        replica.handlers.error = error
        return await replica.get("/v1/tried", method="POST")

    for error in (None, Unavailable("down")) * 20:
        assert (await attempt(error)).status_code == (503 if error else 200)
        replica.clock.time += 7_000
    replica.clock.time += minute
    begun, made = replica.clock.time, list[int]()
    while replica.clock.time < begun + 30 * minute:  # as often as it is allowed
        response = await attempt(Unauthenticated("wrong"))
        if response.status_code == 401:
            made.append(replica.clock.time - begun)
        else:
            assert 1 <= int(response.headers["retry-after"]) <= 61
            replica.clock.time += int(response.headers["retry-after"]) * 1000
    in_minutes = [sum(since * minute <= at < until * minute for at in made) for since, until in ((0, 1), (10, 30))]
    assert in_minutes == [limit, pytest.approx(20, abs=5)]
    replica.clock.time += 20 * minute
    assert [(await attempt(Unauthenticated("wrong"))).status_code for _ in range(limit)] == [401] * limit


async def test_strict_policy_for_people_counts_persons() -> None:
    replica = Replica(ticket_rate_limit=3, unauthenticated_rate_limit=2)
    for number in range(3):
        path = f"/v1/own/{number}"
        assert (await replica.get(path, "ann", f"192.0.2.{number}", method="POST")).status_code == 200
    refused = await replica.get("/v1/own/3", "ann", "192.0.2.9", method="POST")
    assert (refused.status_code, refused.json()["violated-policies"]) == (429, ["tickets"])
    assert (await replica.get("/v1/own/3", "bob", "192.0.2.9", method="POST")).status_code == 200
    assert await replica.statuses("/v1/own/1", 3, method="POST") == [200, 200, 429]  # for want of a scope it is public


async def test_live_streams_are_counted_when_they_are_opened() -> None:
    replica = Replica(stream_rate_limit=2, unauthenticated_rate_limit=3)
    async with serve_app(replica.app, server_config) as address, httpx.AsyncClient() as client:
        for left in (1, 0):
            async with websockets.connect(f"ws://{address}/ws/chart-data") as socket:
                assert socket.response
                assert socket.response.headers["ratelimit"] == f'"streams";r={left};t=61'
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"ws://{address}/ws/chart-data")
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["retry-after"] == "61"
        response = await client.get(f"http://{address}/v1/stream?channels=btc_usd")
        assert (response.status_code, response.json()["violated-policies"]) == (429, ["streams"])


@asynccontextmanager
async def limited_people(database: str, **settings: int) -> AsyncIterator[list[PeopleReplica]]:
    """Two replicas with people and quotas, which share a cache."""
    async with people_system(database, **settings) as system:
        system.cache = MemoryCache(lambda: system.clock.time / 1000)
        replicas = [system.replica(), system.replica()]
        for replica in replicas:
            replica.limit_requests()
        yield replicas


async def sign_in(kurs: PeopleReplica, address: str, password: str = WRONG, name: str = "ann") -> httpx.Response:
    async with kurs.client_at(address) as client:
        return await client.post("/v1/sign-in", json={"name": name, "password": password})


async def test_stranger_waits_and_the_person_does_not(sqlite: str) -> None:
    async with limited_people(sqlite, sign_in_rate_limit=1000) as (here, there):
        await here.register()
        for number in range(6):
            assert (await sign_in((here, there)[number % 2], "192.0.2.1")).status_code == 401
        for seconds in (1, 2, 4):
            for password in (WRONG, PASSWORD):
                refused = await sign_in(there, "192.0.2.1", password)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, str(seconds))
            here.clock.time += seconds * 1000
            assert (await sign_in(here, "192.0.2.1")).status_code == 401
        assert (await sign_in(here, "192.0.2.2", PASSWORD)).status_code == 200
        here.clock.time += 8_000
        assert (await sign_in(here, "192.0.2.1", PASSWORD)).status_code == 200


async def test_many_strangers_delay_new_addresses_only(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And equally for a name that no person has."""
    monkeypatch.setattr(sign_in_throttle, "FROM_NEW_ADDRESSES", AttemptRule(0, 4, 60_000))
    async with limited_people(sqlite) as (here, there):
        await here.register()
        assert (await sign_in(here, "198.51.100.1", PASSWORD)).status_code == 200
        for name in ("ann", "bob", "no name!"):
            for number in range(5):
                assert (await sign_in(here, f"192.0.2.{number}", WRONG, name)).status_code == 401
            refused = await sign_in(there, "192.0.2.9", PASSWORD, name)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await sign_in(there, "198.51.100.1")).status_code == 401
        assert (await sign_in(there, "198.51.100.1", PASSWORD)).status_code == 200
        here.clock.time += 1_000
        assert (await sign_in(there, "192.0.2.9", PASSWORD)).status_code == 200


async def test_overloaded_replica_counts_no_failure(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited_people(sqlite, sign_in_rate_limit=1000) as (here, _):
        await here.register()
        monkeypatch.setattr(password_hasher, "MAX_WAITING", -2)
        for _ in range(10):
            assert (await sign_in(here, "192.0.2.1", PASSWORD)).status_code == 503
        monkeypatch.undo()
        assert (await sign_in(here, "192.0.2.1", PASSWORD)).status_code == 200


async def test_each_flow_of_people_has_its_quota(sqlite: str) -> None:
    settings = {"registration_rate_limit": 2, "refresh_rate_limit": 2, "ticket_rate_limit": 2, "sign_in_rate_limit": 2}
    async with limited_people(sqlite, **settings, unauthenticated_rate_limit=4) as (here, _):
        token = await here.access()
        owner = {"authorization": f"Bearer {token}"}
        flows = [
            ("POST", "/v1/persons", {"name": "ann", "password": PASSWORD}, {}, 409, "registration"),
            ("POST", "/v1/sign-in", {"name": "bob", "password": PASSWORD}, {}, 401, "sign-in"),
            ("POST", "/v1/sign-in/refresh", {"refresh_token": "kurs_r_x"}, {}, 401, "refresh"),
            ("POST", "/v1/stream/tickets", None, owner, 201, "tickets"),
            ("DELETE", "/v1/me", {"password": WRONG}, owner, 403, "password"),
            ("GET", "/v1/me", None, owner, 200, "person"),
        ]
        async with here.client_at("192.0.2.1") as client:
            for method, path, body, headers, status, policy in flows:
                statuses = []
                for _ in range(3):
                    response = await client.request(method, path, json=body, headers=headers)
                    statuses.append(response.status_code)
                assert statuses == [status, status, 200 if policy == "person" else 429], path
                assert response.headers["ratelimit-policy"].startswith(f'"{policy}"')
            for path in ("/v1/me", "/v1/audit", "/v1/api-tokens", "/v1/sign-ins"):
                assert (await client.get(path)).status_code == 401
            refused = await client.get("/v1/me")
            assert (refused.status_code, refused.json()["violated-policies"]) == (429, ["unauthenticated"])
            assert (await client.get("/v1/me", headers=owner)).status_code == 200


async def test_invalid_tickets_count_for_their_address(sqlite: str) -> None:
    async with limited_people(sqlite, unauthenticated_rate_limit=4) as (here, _), here.client_at("192.0.2.1") as client:
        path = "/v1/stream?channels=btc_usd&ticket=kurs_t_"
        responses = [await client.get(f"{path}{number}") for number in range(6)]
        assert [response.status_code for response in responses] == [401] * 4 + [429] * 2
        assert responses[0].headers["ratelimit"] == '"unauthenticated";r=3;t=61'
        assert responses[-1].json()["violated-policies"] == ["unauthenticated"]


async def test_parallel_refreshes_of_one_person_are_within_the_limits(sqlite: str) -> None:
    async with limited_people(sqlite) as replicas:
        await replicas[0].register()
        token = (await replicas[0].sign_in())["refresh_token"]
        clients = [replica.client_at("192.0.2.1") for replica in replicas]
        sent = (clients[number % 2].post("/v1/sign-in/refresh", json={"refresh_token": token}) for number in range(20))
        assert [response.status_code for response in await asyncio.gather(*sent)] == [200] * 20
        for client in clients:
            await client.aclose()


def test_strict_policy_is_for_no_response_that_is_sent_at_once() -> None:
    with pytest.raises(ValueError, match="strict"):
        Endpoint(path="/v1/x", query=NoQuery, limit=SIGN_IN)


def test_each_operation_is_described_with_its_policy() -> None:
    described = openapi_document(api.ROUTERS, api.ENDPOINTS)
    table = described["info"]["description"]
    for endpoint in api.ENDPOINTS:
        if endpoint.operation_id:
            operation = described["paths"][endpoint.path][endpoint.method.lower()]
            assert operation["x-quota-policy"] == endpoint.policy.name
    for policy in POLICIES:
        limit = f"`{policy.variable}`: {policy.default or 'no limit'}"
        assert f"| `{policy.name}` | {limit} | {policy.subject.value} | {policy.covers} |" in table
        assert policy_table() in (Path(__file__).parents[2] / "docs/limits.md").read_text()
