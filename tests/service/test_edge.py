"""The HTTP edge with a hostile client: its work is limited before it begins, and ends when it disconnects."""

import asyncio
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx
import pytest
import websockets
from starlette.types import Receive, Scope, Send

from services.core.errors import Overloaded
from services.web import edge, http_protocol, stalled_client
from services.web.app_spec import AppSpec
from services.web.concurrency import ConcurrencyLimiter
from services.web.edge import MAX_CONCURRENT_REQUESTS, EdgeMiddleware
from services.web.http_protocol import FastPathHttpProtocol
from services.web.server import server_config
from tests.api import CoursesReplica, ServedReplica, connect_client, serve_replica
from tests.live_objects import live_objects
from tests.raw_http import UPGRADE_HEADERS, encode_request, exchange_bytes
from tests.simulator import serve_app
from tests.stream_messages import BTC, rate
from tests.waiting import eventually

TOO_LARGE_CODE = "request-header-fields-too-large"
COURSES_REQUEST = encode_request("GET /v1/courses HTTP/1.1")
STREAM_REQUEST_LINE = "GET /v1/stream?channels=btc_usd&timer=0 HTTP/1.1"


@pytest.fixture
async def replica() -> AsyncIterator[ServedReplica]:
    async with serve_replica(stream_address_connections=3) as running:
        await running.publish(rate(BTC, "1"))
        yield running


@asynccontextmanager
async def raw_connection(
    replica: ServedReplica, sent: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a TCP connection and write `sent`."""
    host, port = replica.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", COURSES_REQUEST, COURSES_REQUEST[:-2]], ids=["silent", "served", "begun"])
async def test_connections_of_the_client_with_the_most_are_closed_at_the_limit(
    caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    courses = CoursesReplica()
    courses.publish_quotes("binance", "coingecko")
    async with serve_app(courses.app, partial(server_config, max_connections=100)) as address:
        host, port = address.split(":")
        loop, sockets = asyncio.get_running_loop(), [socket.socket() for _ in range(501)]

        async def send_from(each: socket.socket, sent: bytes, local: str = "127.0.0.2") -> None:
            each.setblocking(False)
            each.bind((local, 0))
            await loop.sock_connect(each, (host, int(port)))
            await loop.sock_sendall(each, sent)

        honest, *flood = sockets
        try:
            await send_from(honest, COURSES_REQUEST, "127.0.0.1")
            assert b"200 OK" in await loop.sock_recv(honest, 65_536)
            for each in flood:
                await send_from(each, sent)
            await loop.sock_sendall(honest, COURSES_REQUEST)
            assert b"200 OK" in await asyncio.wait_for(loop.sock_recv(honest, 65_536), 60)
        finally:
            for each in sockets:
                each.close()
    assert "more than 100 connections: 6 of 127.0.0.2 are closed" in caplog.text


async def test_too_many_channels_are_refused_before_they_are_built(replica: ServedReplica) -> None:
    symbols, names = [f"S{n:03}" for n in range(4_000)], [f"{n}" for n in range(4_500)]
    async with connect_client(replica) as client:
        await client.next("welcome")
        tracemalloc.start()
        await client.send(action="subscribe", symbols=symbols, indicators=names, timeframe="1m")
        error = await client.next()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert error["code"] == "bad-request"
        assert "18004000 channels are too many: at most 100" in error["message"]
        assert peak_bytes < 10_000_000


@pytest.mark.parametrize(
    "more",
    [
        {"channels": ["candles:" + "B" * 50_000 + ":1m"]},
        {"channels": ["indicators:BTCUSDT:1m:" + ",".join(f"sma:{n}" for n in range(2, 500))]},
        {"channels": ["courses"], "id": "x" * 200},
        {"channels": ["courses"], "id": 2**80},
        {"channels": ["btc_usd"], "action": "resume", "after": "0" * 17},
        {"channels": ["btc_usd"], "action": "resume", "after": "9" * 5_000},
        {"channels": ["btc_usd"], "action": "resume", "after": "٣"},
        {"channels": ["btc_usd"], "action": "resume", "after": [-1]},
        {"channels": ["btc_usd"], "action": "resume", "after": 2**63},
    ],
)
async def test_too_large_message_is_refused_and_the_socket_stays_open(
    replica: ServedReplica, more: dict[str, object]
) -> None:
    async with connect_client(replica) as client:
        await client.next("welcome")
        await client.send(**{"action": "subscribe", **more})
        error = await client.next()
        assert (error["type"], error["code"][:3]) == ("error", "bad")
        assert len(error["message"]) < 400
        await client.send(action="ping")
        assert (await client.next("pong"))["type"] == "pong"


@pytest.mark.parametrize("after", ["0" * 17, "9" * 17, "9" * 1_000, "-1", "+1", "1_0", "1e3", str(2**53)])
async def test_invalid_cursor_is_refused_in_query_and_header(replica: ServedReplica, after: str) -> None:
    async with httpx.AsyncClient() as http:
        for path in ("", "/history"):
            answer = await http.get(replica.stream_url + path, params={"channels": "btc_usd", "after": after})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
            assert "1 numbers" in answer.json()["detail"]
        headers = {"Last-Event-ID": after}
        assert (await http.get(replica.stream_url, params={"channels": "btc_usd"}, headers=headers)).status_code == 400


async def test_history_of_too_many_entries_is_refused_with_a_smaller_limit(replica: ServedReplica) -> None:
    channels = ",".join(f"candles:BTCUSDT:{name}" for name in ("1m", "5m", "15m", "1h", "4h", "1d")) + ",connection"
    async with httpx.AsyncClient() as http:
        usual = await http.get(f"{replica.stream_url}/history", params={"channels": channels})
        most = await http.get(f"{replica.stream_url}/history", params={"channels": channels, "limit": "1000"})
        few = await http.get(
            f"{replica.stream_url}/history", params={"channels": "connection,courses,btc_usd", "limit": "1000"}
        )
        many = ",".join(f"indicators:BTCUSDT:1m:sma:{number}" for number in range(2, 50))
        refused = await http.get(f"{replica.stream_url}/history", params={"channels": many, "limit": "1000"})
    assert [each.status_code for each in (usual, most, few, refused)] == [200, 200, 200, 422]
    assert "write limit=208" in refused.json()["detail"]


@pytest.mark.parametrize(
    "frames",
    [
        b"\x89\x80\0\0\0\0",
        b"\x8a\x80\0\0\0\0",
        b"\x89\xfd\0\0\0\0" + b"p" * 125,
        b"\x01\x80\0\0\0\0" + b"\0\x80\0\0\0\0",
    ],
    ids=["pings", "pongs", "long pings", "empty fragments"],
)
async def test_control_frames_and_fragments_count_as_messages(replica: ServedReplica, frames: bytes) -> None:
    async with raw_connection(replica, encode_request("GET /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS)) as (
        reader,
        writer,
    ):
        await reader.readuntil(b'"welcome"')
        more = b"\0\x80\0\0\0\0" if frames.startswith(b"\x01") else frames
        writer.write(frames + more * 20_000)
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert (4400).to_bytes(2) + b"more than 100 messages" in answer
        assert len(answer) < 200 * 131  # pongs to the frames before the limit
    async with connect_client(replica) as client:
        await client.next("welcome")


async def test_disconnect_ends_the_stream_with_requests_behind_it(replica: ServedReplica) -> None:
    behind = [
        encode_request("GET /livez HTTP/1.1"),
        encode_request("GET /livez HTTP/1.1") * 1_000,
        encode_request("GET /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS),
        encode_request(STREAM_REQUEST_LINE),
        b"\0\0\0 this is nothing",
        b"GET /half",
        b"",
    ]
    for sent in behind:
        async with raw_connection(replica, encode_request(STREAM_REQUEST_LINE) + sent) as (reader, _):
            await reader.readuntil(b"event: btc_usd")
            assert replica.stream_clients == 1
        await eventually(lambda: not replica.stream_clients)


async def test_pipelined_requests_after_a_refused_stream_are_served(replica: ServedReplica) -> None:
    last = encode_request("GET /livez HTTP/1.1", Connection="close")
    answer = await exchange_bytes(
        replica.address, encode_request("GET /v1/stream HTTP/1.1") + encode_request("GET /livez HTTP/1.1") * 300 + last
    )
    assert answer.count(b"HTTP/1.1 400") == 1
    assert answer.count(b"HTTP/1.1 200") == 301


async def test_pipelined_responses_wait_for_a_client_that_does_not_read(replica: ServedReplica) -> None:
    sent = encode_request("GET /openapi.json HTTP/1.1") * 4_000
    async with raw_connection(replica, sent) as (reader, writer):
        await eventually(
            lambda: any(each.flow and each.flow.write_paused for each in live_objects(FastPathHttpProtocol))
        )
        await asyncio.sleep(0.3)
        (served,) = [each for each in live_objects(FastPathHttpProtocol) if each.flow and each.flow.write_paused]
        assert served.transport.get_write_buffer_size() < 1_000_000
        assert len(served.pipeline) < 200
        async with asyncio.timeout(60):
            seen = 0
            while seen < 50:
                seen += (await reader.read(1 << 20)).count(b"HTTP/1.1 200")
        writer.transport.abort()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GARBAGE\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431, TOO_LARGE_CODE),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", 431, TOO_LARGE_CODE),
        (encode_request("GET /caf\xe9 HTTP/1.1").replace("é".encode(), b"\xe9\xff"), 400, "bad-request"),
        (b"GET http:// HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (encode_request("GET /ws/chart-data\xff HTTP/1.1", **UPGRADE_HEADERS), 400, "bad-request"),
        (
            encode_request("GET /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS, Cookie="c" * 10_000),
            431,
            "request-header-fields-too-large",
        ),
    ],
)
async def test_malformed_request_gets_problem_details(
    replica: ServedReplica, caplog: pytest.LogCaptureFixture, sent: bytes, status: int, code: str
) -> None:
    head, _, body = (await exchange_bytes(replica.address, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in head
    assert f'"code":"{code}"'.encode() in body
    assert b'"request_id":"' in body
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_unread_body_ends_the_connection(replica: ServedReplica) -> None:
    sent = encode_request("GET /v1/directions HTTP/1.1", Content_Length="1000000000") + b"x" * 200_000
    with suppress(ConnectionError):  # the server closes before it has read everything
        assert (await exchange_bytes(replica.address, sent)).count(b"HTTP/1.1 ") <= 2


@pytest.mark.parametrize("sent", [b"", b"GET / HT", encode_request("POST / HTTP/1.1", Content_Length="10") + b"12345"])
async def test_incomplete_request_times_out(
    replica: ServedReplica, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_TIMEOUT_SECONDS", 0.3)
    answer = await exchange_bytes(replica.address, sent)
    assert b"HTTP/1.1 408 " in answer or b"HTTP/1.1 405 " in answer


@pytest.mark.parametrize("before", [b"", encode_request("GET /v1/directions HTTP/1.1")])
async def test_empty_lines_do_not_extend_the_time_for_a_request(
    replica: ServedReplica, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_TIMEOUT_SECONDS", 0.5)
    async with raw_connection(replica, before) as (reader, writer), asyncio.timeout(60):
        while not reader.at_eof():
            writer.write(b"\r\n")
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(65_536), 0.1)


async def test_incomplete_body_that_an_application_waits_for_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_TIMEOUT_SECONDS", 0.3)
    received = list[str]()

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while not received or received[-1] != "http.disconnect":
            received.append((await receive())["type"])

    async with serve_app(app, server_config) as address:
        assert await exchange_bytes(address, encode_request("POST / HTTP/1.1", Content_Length="10") + b"123") == b""
        await eventually(lambda: received[-1] == "http.disconnect")


@pytest.mark.parametrize(
    "sent",
    [
        encode_request("GET /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS, Content_Length="30000") + b"abc",
        encode_request("GET /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS, Transfer_Encoding="chunked") + b"3\r\nabc\r\n",
        encode_request("POST /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS, Content_Length="3") + b"abc",
        encode_request("POST /ws/chart-data HTTP/1.1", **UPGRADE_HEADERS),
    ],
)
async def test_websocket_by_another_method_or_with_a_body_is_refused(replica: ServedReplica, sent: bytes) -> None:
    with suppress(ConnectionError):  # the server closes before it has read everything
        assert (await exchange_bytes(replica.address, sent)).startswith(b"HTTP/1.1 400 ")


async def test_waiting_request_of_a_disconnected_client_is_not_computed() -> None:
    """Otherwise a client that sends requests and disconnects would keep the server busy for minutes."""
    begun, release = list[str](), asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    edge = EdgeMiddleware(app, AppSpec(), CoursesReplica().deps.hub)
    async with serve_app(edge, server_config) as address, httpx.AsyncClient() as http:

        def has_begun(count: int) -> bool:
            return len(begun) >= count

        for number in range(20):
            gone = asyncio.create_task(http.get(f"http://{address}/gone/{number}"))
            if number < MAX_CONCURRENT_REQUESTS:
                await eventually(partial(has_begun, number + 1))
            else:
                await asyncio.sleep(0.05)
            gone.cancel()
        last = asyncio.create_task(http.get(f"http://{address}/last"))
        await asyncio.sleep(0)
        release.set()
        assert (await last).status_code == 200
    assert begun[-1] == "/last"
    assert len(begun) == MAX_CONCURRENT_REQUESTS + 1


async def test_openapi_document_has_an_etag(replica: ServedReplica) -> None:
    async with httpx.AsyncClient() as http:
        first = await http.get(f"http://{replica.address}/openapi.json")
        assert first.json()["info"]["title"] == "Kurs"
        again = await http.get(
            f"http://{replica.address}/openapi.json", headers={"If-None-Match": first.headers["etag"]}
        )
    assert (first.status_code, again.status_code) == (200, 304)


async def test_client_that_does_not_read_is_disconnected(
    replica: ServedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalled_client, "MAX_STALL_SECONDS", 0.3)
    async with raw_connection(replica, encode_request("GET /openapi.json HTTP/1.1") * 1_000):
        await eventually(
            lambda: any(each.flow and each.flow.write_paused for each in live_objects(FastPathHttpProtocol))
        )
        await eventually(
            lambda: (
                not any(
                    each.transport and not each.transport.is_closing() for each in live_objects(FastPathHttpProtocol)
                )
            ),
        )


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/v1/stream", 400, "bad-request"), ("/nowhere", 404, "not-found"), ("/v1/courses", 404, "not-found")],
)
async def test_websocket_at_another_path_gets_problem_details(
    replica: ServedReplica, caplog: pytest.LogCaptureFixture, path: str, status: int, code: str
) -> None:
    caplog.set_level(logging.INFO, "services")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://{replica.address}{path}", additional_headers={"X-Request-ID": "mine"})
    answer = refused.value.response
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers["x-request-id"] == "mine"
    assert f'"code":"{code}"'.encode() in answer.body
    assert b'"request_id":"mine"' in answer.body
    ours = [record for record in caplog.records if record.name.startswith("services")]
    assert [(record.levelname, record.message, vars(record)["request_id"]) for record in ours] == [
        ("INFO", f"WebSocket {path} {status}", "mine")
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_health_checks_are_not_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each container would log one every ten seconds."""
    caplog.set_level(logging.INFO, "services")
    monkeypatch.setattr(edge, "SLOW_SECONDS", 0.0)
    async with serve_replica() as stale, httpx.AsyncClient(base_url=f"http://{stale.address}") as http:
        assert [(await http.get(path)).status_code for path in ("/readyz", "/livez", "/v1/courses")] == [200, 200, 503]
    lines = [record.getMessage() for record in caplog.records if record.name == "services.web.edge"]
    assert lines == ["GET /v1/courses 503"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_plain_request_to_the_websocket_gets_426(replica: ServedReplica, method: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.request(method, f"http://{replica.address}/ws/chart-data")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert method == "HEAD" or answer.json()["code"] == "upgrade-required"


async def test_waiting_requests_of_a_client_are_bounded_and_delay_no_other_client() -> None:
    limiter, running, most = ConcurrencyLimiter(2, 3, 1), 0, 0

    async def work(name: str, seconds: float) -> None:
        nonlocal running, most
        async with limiter.slot(name, lambda: False):
            running += name == "one"
            most = max(most, running)
            await asyncio.sleep(seconds)
            running -= name == "one"

    tasks = [asyncio.create_task(work("one", 0.05)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await work("one", 0)
    other = asyncio.create_task(work("other", 0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert other.done()
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 2
    await asyncio.gather(*(work("one", 0) for _ in range(5)))
    tasks = [asyncio.create_task(work("one", 60)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="3 requests of yours came before"):
        await work("one", 0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
