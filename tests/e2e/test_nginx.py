"""The project's nginx in front of two replicas that can be killed and paused."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
import websockets

from tests import nginx, servers
from tests.api import serve_replica
from tests.e2e.nginx_site import stub_replica
from tests.raw_http import exchange_bytes
from tests.waiting import eventually

MAX_FAILOVER_SECONDS = 4  # on a busy machine; nginx leaves a hung replica after 0.7 s
MAX_CACHE_SECONDS = 2  # on a busy machine; nginx caches a response for the rest of the second


class NginxSite(NamedTuple):
    """nginx and the replicas behind it."""

    url: str
    replicas: list[servers.Server]


@pytest.fixture(scope="module")
def site() -> Iterator[NginxSite]:
    with servers.private_servers() as private:
        replicas = [stub_replica(private.folder / f"replica{number}") for number in range(2)]
        for each in replicas:
            private.running.append(each.start())
        port, ports = servers.free_port(), [int(each.url.rpartition(":")[2]) for each in replicas]
        front = private.nginx(nginx.configuration(private.folder / f"nginx{port}", port, ports), port)
        yield NginxSite(front.url, replicas)


@pytest.fixture
async def client(site: NginxSite) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=site.url, timeout=60, trust_env=False) as client:
        yield client


async def test_no_request_fails_while_replicas_are_killed(site: NginxSite, client: httpx.AsyncClient) -> None:
    statuses: Counter[int] = Counter()
    pids: set[int] = set()
    over = asyncio.Event()

    async def send_requests(path: str) -> None:
        while not over.is_set():
            answer = await client.get(path)
            statuses[answer.status_code] += 1
            pids.add(answer.json()["replica"])

    async def wait_for_responses(more: int) -> None:
        until = statuses.total() + more
        await eventually(lambda: statuses.total() >= until)

    async with asyncio.TaskGroup() as clients:
        for path in ["/v2/courses", "/v1/courses", "/v2/courses?direction=BTC-USD", "/api/chart-data"] * 2:
            clients.create_task(send_requests(path))
        for victim in site.replicas:
            await wait_for_responses(300)
            victim.kill()
            await wait_for_responses(300)
            await asyncio.to_thread(victim.start)
        await wait_for_responses(300)
        over.set()
    assert set(statuses) == {200}
    assert len(pids) == 4  # each replica served before and after


async def test_requests_to_a_hung_replica_are_served_by_the_other(site: NginxSite, client: httpx.AsyncClient) -> None:
    """The kernel still accepts connections for the hung process."""
    paths = [
        "/v1/courses?hang={}",
        "/v2/courses?n={}",
        "/api/chart-data?n={}",
        "/api/indicators?n={}",
        "/v1/other?n={}",
    ]
    numbers = itertools.count()
    site.replicas[0].pause()
    try:
        for path in paths * 8:
            began = time.monotonic()
            answer = await client.get(path.format(next(numbers)))
            assert answer.status_code == 200
            assert time.monotonic() - began < MAX_FAILOVER_SECONDS
        for _ in range(8):
            began = time.monotonic()
            async with client.stream("GET", "/v1/stream") as events:
                assert await anext(events.aiter_text()) == "data: first\n\n"
            async with websockets.connect(site.url.replace("http", "ws") + "/ws/chart-data", proxy=None) as socket:
                await socket.send("here?")
                assert await socket.recv() == "here?"
            assert time.monotonic() - began < 2 * MAX_FAILOVER_SECONDS
        began = time.monotonic()
        assert (await client.get("/slow")).status_code == 200  # a slow response is waited for
        assert time.monotonic() - began < 2 + 2 * MAX_FAILOVER_SECONDS
    finally:
        site.replicas[0].resume()


async def test_stream_clients_of_a_hung_replica_reconnect_to_the_other(
    site: NginxSite, client: httpx.AsyncClient
) -> None:
    url = site.url.replace("http", "ws") + "/ws/chart-data"
    async with client.stream("GET", "/v1/stream") as events, websockets.connect(url, proxy=None) as socket:
        texts = events.aiter_text()
        assert await anext(texts) == "data: first\n\n"
        for replica in site.replicas:
            replica.pause()
        try:
            began = time.monotonic()
            with pytest.raises(httpx.HTTPError):
                async for _ in texts:
                    pass
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert time.monotonic() - began < 12
            began = time.monotonic()
            refused = [await client.get(path) for path in ("/v1/stream", "/v2/courses")]
            assert [answer.status_code for answer in refused] == [503, 503]
            assert all(answer.headers["retry-after"] == "1" for answer in refused)
            assert time.monotonic() - began < 30
        finally:
            for replica in site.replicas:
                replica.resume()
    async with client.stream("GET", "/v1/stream") as events:
        assert await anext(events.aiter_text()) == "data: first\n\n"


async def test_slow_response_is_waited_for(client: httpx.AsyncClient) -> None:
    assert (await client.get("/slow")).status_code == 200


async def test_write_reaches_one_replica_once_and_is_waited_for(site: NginxSite, client: httpx.AsyncClient) -> None:
    """A sign-in waits for its turn at the password's hash."""
    before = {(await client.get(f"/v1/n?{n}")).json()["replica"]: 0 for n in range(20)}
    assert len(before) == 2
    answer = await client.post("/slow", content=b"{}")
    assert (answer.status_code, answer.json()["method"]) == (200, "POST")
    assert (await client.delete("/v1/sign-in")).json()["method"] == "DELETE"
    site.replicas[0].pause()
    try:
        numbers = [(await client.post("/v1/sign-in")).json()["number"] for _ in range(6)]
    finally:
        site.replicas[0].resume()
    # The other replica has seen each once, after one health request.
    assert numbers == [*range(numbers[0], numbers[0] + 12, 2)]


async def test_if_none_match_is_answered_from_the_cache(client: httpx.AsyncClient) -> None:
    client.headers["Accept-Encoding"] = "identity"  # nginx weakens the tag of what it compresses
    await wait_for_early_in_second()
    first = await client.get("/v1/courses?not=modified")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get("/v1/courses?not=modified", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert again.headers["cache-status"] == "nginx; hit"
    other = await client.get("/v1/courses?not=modified", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)
    head = await client.head("/v1/courses?not=modified")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)


async def test_cached_response_is_served_within_its_second_only(client: httpx.AsyncClient) -> None:
    fetched: Counter[tuple[int, int]] = Counter()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        requested_at = time.time()
        body = (await client.get("/v1/courses")).json()
        assert requested_at - body["time"] < MAX_CACHE_SECONDS
        fetched[body["replica"], body["number"]] += 1
    assert len(fetched) <= 5  # one for each second of the clock that was touched, and one more for a busy machine
    assert fetched.total() > 2 * len(fetched)


@pytest.mark.parametrize("status", [404, 422, 429, 500, 503])
async def test_error_is_not_cached(client: httpx.AsyncClient, status: int) -> None:
    await wait_for_early_in_second()
    answers = [await client.get(f"/v1/courses?status={status}") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [status] * 4
    assert len({(answer.json()["replica"], answer.json()["number"]) for answer in answers}) == 4


async def test_responses_of_different_origin_host_and_query_are_cached_apart(client: httpx.AsyncClient) -> None:
    await wait_for_early_in_second()
    for origin in ("http://one.example", "http://two.example", "http://one.example"):
        answer = await client.get("/v1/courses", headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
    assert (await client.get("/v1/courses")).headers["access-control-allow-origin"] == "*"
    for host in ("one.example", "two.example", "one.example:8000"):
        for path in ("/v1/courses", "/api/chart-data", "/api/chart-data"):
            assert (await client.get(path, headers={"Host": host})).json()["headers"]["host"] == host
    for arguments in ("direction=BTC-USD", "direction=ETH-USD", "direction=BTC-USD"):
        assert (await client.get(f"/v1/courses?{arguments}")).json()["arguments"] == arguments
    ids = [(await client.get("/courses", headers={"X-Request-ID": name})).headers for name in ("one", "two")]
    assert [headers.get_list("x-request-id") for headers in ids] == [["one"], ["two"]]


async def test_client_gets_its_own_quota_and_none_with_a_cached_response(client: httpx.AsyncClient) -> None:
    await wait_for_early_in_second()
    names = ("ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    for path, cached in (("/v1/courses?a=1", True), ("/v2/courses", False), ("/v1/courses?status=429", False)):
        first, second = await client.get(path), await client.get(path)
        assert [len(first.headers.get_list(name)) for name in names] == [1] * 5
        assert [len(second.headers.get_list(name)) for name in names] == [not cached] * 5
    for response in (first, await client.post("/v1/sign-in")):
        assert response.headers["ratelimit"] == '"courses";r=1;t=1'


@pytest.mark.parametrize("root", ["api", "v1"])
async def test_candles_are_cached_from_the_second_request_on_compressed_and_plain(
    client: httpx.AsyncClient, root: str
) -> None:
    """The first request is not cached, the second one is. The spelling of Accept-Encoding does not matter."""
    await wait_for_early_in_second()
    for encoding, spellings in {
        "gzip": ("gzip, br", "br;q=1.0, gzip;q=0.8", "deflate, GZIP"),
        None: ("identity", "gzip;q=0, br", ""),
    }.items():
        requests = [client.get(f"/{root}/chart-data?a=b", headers={"Accept-Encoding": each}) for each in spellings]
        first, second, third = [(await each).json() for each in requests]
        assert [each["headers"].get("accept-encoding") for each in (first, second, third)] == [encoding] * 3
        fetches = [(each["replica"], each["number"]) for each in (first, second, third)]
        assert (fetches[0] != fetches[1], fetches[1] == fetches[2]) == (True, True)


async def test_forwarding_headers_of_clients_are_replaced(client: httpx.AsyncClient) -> None:
    claims = {"X-Forwarded-For": "10.0.0.1, 10.0.0.2", "Forwarded": "for=10.0.0.1", "X-Request-ID": 'a"b'}
    answer = await client.get("/v2/courses", headers=claims)
    sent: dict[str, Any] = answer.json()["headers"]
    assert sent["x-forwarded-for"] == "127.0.0.1"
    assert "forwarded" not in sent
    assert sent["x-request-id"] == answer.headers["x-request-id"] != 'a"b'


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"url": "/metrics"}, 404),  # for the operator only
        ({"url": "/readyz"}, 404),
        ({"url": "/v1/courses", "headers": {"Cookie": "x" * 9_000}}, 400),
        ({"url": "/v1/courses", "method": "POST", "content": bytes(100_000)}, 413),
        ({"url": f"/v1/courses?{'x' * 9_000}"}, 414),
    ],
)
async def test_refusals_of_nginx_are_problem_details(
    client: httpx.AsyncClient, request_: dict[str, Any], status: int
) -> None:
    answer = await client.request(**{"method": "GET", **request_})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["status"] == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


CLOSED_PATHS = [
    *("/metrics", "/readyz", "/%6detrics", "/%6Detrics", "/metric%73", "//metrics", "/./metrics", "/v1/../metrics"),
    *("/v1/%2e%2e/metrics", "/v1/..%2fmetrics", "/%2fmetrics", "/metrics?x=1", "/metrics#x", "/METRICS", "/Readyz"),
    *("/metrics/", "/metrics%20", "/metrics;x", "/metrics%00", "/%256detrics", "/v1/courses/../../metrics"),
    *("/courses%2f..%2fmetrics", "/metrics/../v1/%2e%2e/readyz", "/\\metrics", "http://localhost/metrics"),
    *("/simulator", "/simulator/faults", "/%73imulator/faults", "//simulator//faults", "/SIMULATOR/faults"),
]


async def test_closed_paths_are_unreachable_in_every_spelling() -> None:
    """Behind nginx is a replica of Kurs, because nginx and a replica may parse a path differently."""
    async with serve_replica() as kurs:
        with servers.private_servers() as private:
            port = servers.free_port()
            (private.folder / "closed").mkdir()
            private.nginx(
                nginx.configuration(private.folder / "closed", port, [int(kurs.address.rpartition(":")[2])]), port
            )
            for path in CLOSED_PATHS:
                for host, method in itertools.product(("localhost", kurs.address), ("GET", "POST", "DELETE")):
                    sent = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                    answer = await exchange_bytes(f"127.0.0.1:{port}", sent)
                    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404"), (path, answer)
                    assert b"application/problem+json" in answer, path
                    assert b"kurs_" not in answer
            direct = await exchange_bytes(
                kurs.address, b"GET /%6detrics HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n"
            )
            http_1_0 = await exchange_bytes(f"127.0.0.1:{port}", b"GET /v1/symbols HTTP/1.0\r\n\r\n")
            async with websockets.connect(f"ws://127.0.0.1:{port}/ws/chart-data", proxy=None) as socket:
                assert b'"welcome"' in await socket.recv(decode=False)
    assert b"kurs_" in direct
    assert http_1_0.startswith(b"HTTP/1.1 200"), http_1_0


async def test_malformed_http_gets_problem_details(site: NginxSite) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/courses HTTP/1.1\r\n no header\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert "400 Bad Request" in answer
    assert '"code":"bad-request"' in answer


async def test_live_streams_are_not_buffered(site: NginxSite, client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60), client.stream("GET", "/v1/stream") as events:
        assert await anext(events.aiter_text()) == "data: first\n\n"
    async with websockets.connect(site.url.replace("http", "ws") + "/ws/chart-data", proxy=None) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_response_without_any_replica_is_problem_details(site: NginxSite, client: httpx.AsyncClient) -> None:
    for each in site.replicas:
        each.kill()
    try:
        answer = await client.get("/v1/courses?replicas=none")
    finally:
        for each in site.replicas:
            each.start()
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"


async def wait_for_early_in_second() -> None:
    """Wait until a second of the clock has just begun, because cached responses end with it."""
    await eventually(lambda: time.time() % 1 < 0.1)
