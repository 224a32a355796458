"""The fast path around uvicorn's tasks: its responses equal those of the ASGI application byte for byte."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from starlette.types import Receive, Scope, Send

from services import api
from services.web import AppSpec, Content, Endpoint, NoQuery, bind, create_app, make_servers, server
from services.web.edge import EdgeMiddleware
from services.web.server import Server, server_config
from tests.api import CoursesReplica
from tests.raw_http import encode_request, exchange_bytes
from tests.simulator import serve_app
from tests.tls import tls_contexts

PAGE_ORIGIN = "http://localhost:5173"


@pytest.fixture
async def replica() -> AsyncIterator[CoursesReplica]:
    replica = CoursesReplica()
    replica.publish_quotes("binance", "coingecko")
    async with replica.client:
        yield replica


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/courses", {}),
        ("/v1/courses", {"If-None-Match": "*"}),
        ("/v1/courses", {"Origin": PAGE_ORIGIN}),
        ("/v1/courses?direction=NO-SUCH", {"Origin": PAGE_ORIGIN}),
        ("/v2/courses?exchanger=coingecko", {}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_response_of_the_fast_path_equals_that_of_the_application(
    replica: CoursesReplica, method: str, path: str, headers: dict[str, str]
) -> None:
    headers = {**headers, "X-Request-ID": "trace-42"}
    plain = await replica.client.request(method, path, headers=headers)
    async with serve_app(replica.app, server_config) as address, httpx.AsyncClient() as client:
        fast = await client.request(method, f"http://{address}{path}", headers=headers)
    ours = {name: value for name, value in fast.headers.items() if name != "date"}
    assert (fast.status_code, fast.content, ours) == (plain.status_code, plain.content, dict(plain.headers))


async def test_pipelined_requests_get_responses_in_order(replica: CoursesReplica) -> None:
    lines = ["GET /v1/courses", "GET /v1/directions", "HEAD /v1/courses", "GET /nowhere", "GET /v2/courses"]
    sent = b"".join(encode_request(f"{line} HTTP/1.1", X_Request_ID=f"row-{row}") for row, line in enumerate(lines))
    with_body = encode_request("GET /v1/courses HTTP/1.1", X_Request_ID="row-5", Content_Length="5") + b"hello"
    last = encode_request("GET /v1/courses HTTP/1.1", X_Request_ID="row-6", Connection="close")
    async with serve_app(replica.app, server_config) as address:
        answer = (await exchange_bytes(address, sent + with_body + last)).decode()
    indexes = [answer.index(f"x-request-id: row-{row}\r\n") for row in range(7)]
    assert indexes == sorted(indexes)
    statuses = [part[:3] for part in answer.split("HTTP/1.1 ")[1:]]
    assert statuses == ["200", "200", "200", "404", "200", "200", "200"]
    assert answer.count("connection: close\r\n") == 1


async def test_http_1_0_response_ends_with_the_connection(replica: CoursesReplica) -> None:
    async with serve_app(replica.app, server_config) as address:
        head, _, body = (await exchange_bytes(address, b"GET /v1/courses HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert body == (await replica.get("/v1/courses")).content


@pytest.mark.parametrize("length", [b"", b"11"])
async def test_http_1_0_response_is_not_chunked(replica: CoursesReplica, length: bytes) -> None:
    headers = [(b"content-length", length)] if length else []

    async def streams(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body in (b"first", b"", b"second"):
            await send({"type": "http.response.body", "body": body, "more_body": body != b"second"})

    edge = EdgeMiddleware(streams, AppSpec(), replica.deps.hub)
    async with serve_app(edge, server_config) as address:
        head, _, body = (await exchange_bytes(address, b"GET /any HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
        again = await exchange_bytes(address, encode_request("GET /any HTTP/1.1", Connection="close"))
    assert (body, b"chunked" in head, b"connection: close" in head) == (b"firstsecond", False, True)
    assert (b"chunked" in again) == (not length)


class FastPathOnlyEdge(EdgeMiddleware):
    """An edge that fails when it is called as an application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application was called")


async def test_cached_response_is_written_without_calling_the_application(replica: CoursesReplica) -> None:
    servers = make_servers(api.endpoints(replica.deps), replica.clock, replica.deps.hub)
    edge = FastPathOnlyEdge(replica.app, AppSpec(), replica.deps.hub, servers)
    async with serve_app(edge, server_config) as address, httpx.AsyncClient() as client:
        assert (await client.get(f"http://{address}/v1/courses")).status_code == 200


async def test_exception_in_a_route_is_500_logged_once_and_counted(
    replica: CoursesReplica, caplog: pytest.LogCaptureFixture
) -> None:
    routes = APIRouter()

    @routes.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    app = create_app(replica.deps, AppSpec([routes]))
    async with serve_app(app, server_config) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        answer = await client.get("/broken", headers={"X-Request-ID": "broken-1"})
        assert (answer.status_code, answer.json()["request_id"]) == (500, "broken-1")
        assert 'route="/broken",status="500"} 1.0' in (await client.get("/metrics")).text
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


async def test_exception_in_a_fast_handler_is_500_and_logged(
    replica: CoursesReplica, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenHandler:
        @Endpoint(path="/v1/courses", query=NoQuery).handler
        def broken(self, _query: NoQuery) -> Content:
            raise ZeroDivisionError

    servers = make_servers(bind(BrokenHandler()), replica.clock, replica.deps.hub)
    edge = EdgeMiddleware(replica.app, AppSpec(), replica.deps.hub, servers)
    async with serve_app(edge, server_config) as address, httpx.AsyncClient() as client:
        answer = await client.get(f"http://{address}/v1/courses")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "ZeroDivisionError" in caplog.text


async def test_unfinished_tls_handshake_is_disconnected(
    replica: CoursesReplica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TLS_HANDSHAKE_SECONDS", 0.2)
    ours, theirs = tls_contexts(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    running = Server(server_config(replica.app, tls=ours))
    serving = asyncio.create_task(running.serve(sockets=[listener]))
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        async with asyncio.timeout(40):  # the event loop alone would wait for a minute
            assert await reader.read() == b""
        writer.close()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/livez"
        async with httpx.AsyncClient(verify=theirs) as client:
            assert (await client.get(url)).status_code == 200
    finally:
        running.should_exit = True
        await serving
