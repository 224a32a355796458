"""The host names that Kurs accepts, and the pages that may use it: any domain name may resolve to its address."""

import logging
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import websockets

from tests.api import connect_client, serve_replica
from tests.raw_http import UPGRADE_HEADERS, exchange_bytes

EVIL = "evil.example"


def get_with_host(host: str, path: str = "/v1/symbols", **more: str) -> bytes:
    headers = {"Host": host, "Connection": "close", **more}
    lines = [f"GET {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


NAMES = [
    ("localhost", 200),
    ("LOCALHOST.:8000", 200),
    ("kurs.localhost:1", 200),
    ("127.0.0.1:8000", 200),
    ("[::1]:8000", 200),
    ("192.0.2.7", 200),  # an address cannot be pointed elsewhere
    ("kurs.example", 200),
    ("Kurs.Example:443", 200),
    ("a.b.pages.example", 200),
    (EVIL, 421),
    (f"{EVIL}:8000", 421),
    (f"kurs.example.{EVIL}", 421),
    ("pages.example", 421),
    ("localhost.evil.example", 421),
    ("127.0.0.1.evil.example", 421),
    ("user@localhost", 400),
    ("localhost:80:80", 400),
    ("a/b", 400),
    ("", 400),
    ("\tlocalhost:8000\t", 200),  # white space around a value does not count
    ("localhost:65535", 200),
    ("localhost:65536", 400),
    (".localhost", 400),
    (".pages.example", 400),
    ("a..pages.example", 400),
]


async def test_request_with_another_host_name_is_refused() -> None:
    async with serve_replica(allowed_hosts=("kurs.example", "*.pages.example")) as replica:
        for host, status in NAMES:
            for path, found in (("/v1/symbols", 200), ("/nowhere", 404), ("/v1/stream?channels=none", 422)):
                answer = (await exchange_bytes(replica.address, get_with_host(host, path))).decode()
                assert answer.startswith(f"HTTP/1.1 {found if status == 200 else status} "), (host, path)
                assert status != 421 or ('"code":"misdirected"' in answer and "KURS_ALLOWED_HOSTS" in answer)


async def test_any_host_name_is_accepted_on_all_interfaces_without_a_list() -> None:
    async with serve_replica(host="0.0.0.0") as replica:
        assert b"HTTP/1.1 200" in await exchange_bytes(replica.address, get_with_host(EVIL))
    async with serve_replica(host="127.0.0.2") as replica:
        assert b"HTTP/1.1 421" in await exchange_bytes(replica.address, get_with_host(EVIL))
    async with serve_replica(allowed_hosts=("*",)) as replica:
        assert b"HTTP/1.1 200" in await exchange_bytes(replica.address, get_with_host(EVIL))


async def test_request_without_exactly_one_host_header_is_refused() -> None:
    async with serve_replica() as replica:
        none = await exchange_bytes(
            replica.address, b"GET /v1/symbols HTTP/1.1\r\n\r\nGET /v1/symbols HTTP/1.0\r\n\r\n"
        )
        two = await exchange_bytes(replica.address, get_with_host("localhost", Connection="close\r\nHost: localhost"))
        old = await exchange_bytes(replica.address, b"GET /v1/symbols HTTP/1.0\r\n\r\n")
        upgrade = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in UPGRADE_HEADERS.items())
        socket = await exchange_bytes(replica.address, f"GET /ws/chart-data HTTP/1.1\r\n{upgrade}\r\n".encode())
    assert b"HTTP/1.1 400" in none
    assert b"needs the header Host" in none
    assert (two[:12], old[:12], socket[:12]) == (b"HTTP/1.1 400", b"HTTP/1.1 200", b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("settings", "origin", "host", "admitted"),
    [
        ({}, f"http://{EVIL}:8000", f"{EVIL}:8000", False),
        ({"host": "0.0.0.0"}, f"http://{EVIL}:8000", f"{EVIL}:8000", False),
        ({"host": "0.0.0.0"}, "https://kurs.example", "kurs.example", False),
        ({"host": "0.0.0.0", "allowed_hosts": ("kurs.example",)}, "https://kurs.example", "Kurs.Example", True),
        ({"allowed_hosts": ("kurs.example",)}, f"http://{EVIL}", "kurs.example", False),
        ({}, "http://localhost:8000", "LocalHost:8000", True),
        ({}, "http://localhost:8000", "localhost:9000", False),
        ({}, "http://192.0.2.7:8000", "192.0.2.7:8000", True),
        ({}, "http://[::1]:8000", "[::1]:8000", True),
        ({}, "null", "localhost", False),
        ({}, "evil://localhost:8000", "localhost:8000", False),
        ({}, "file://localhost", "localhost", False),
        ({"cors_allowed_origins": ("null",)}, "null", "localhost", True),
        ({"cors_allowed_origins": (f"http://{EVIL}",)}, f"http://{EVIL}", "localhost", True),
    ],
)
async def test_websocket_is_open_to_pages_of_the_own_and_of_configured_origins(
    settings: Mapping[str, Any], origin: str, host: str, admitted: bool
) -> None:
    async with serve_replica(**settings) as replica:
        head = get_with_host(host, "/ws/chart-data", **{**UPGRADE_HEADERS, "Origin": origin, "Content_Length": "0"})
        if not admitted:
            answer = await exchange_bytes(replica.address, head)
            assert answer[:12] in (b"HTTP/1.1 403", b"HTTP/1.1 421")
            return
        name, _, port = replica.address.partition(":")
        opened = websockets.connect(f"ws://{host}/ws/chart-data", origin=origin, host=name, port=int(port))  # type: ignore[arg-type]
        async with opened as socket:
            assert b"welcome" in (await socket.recv(decode=False))


async def test_pages_without_an_origin_are_allowed_by_the_origin_null() -> None:
    """Sandboxed frames and files send it."""
    async with serve_replica(cors_allowed_origins=("null",)) as replica, httpx.AsyncClient() as http:
        answer = await http.get(f"http://{replica.address}/v1/symbols", headers={"Origin": "null"})
        assert answer.headers["access-control-allow-origin"] == "null"
        preflight_headers = {"Origin": "null", "Access-Control-Request-Method": "GET"}
        preflight = await http.options(f"http://{replica.address}/v1/stream", headers=preflight_headers)
        assert preflight.headers["access-control-allow-origin"] == "null"
        query = {"channels": "btc_usd"}
        async with http.stream("GET", replica.stream_url, params=query, headers={"Origin": "null"}) as events:
            assert events.headers["access-control-allow-origin"] == "null"
        async with connect_client(replica, origin="null") as client:
            assert (await client.next())["type"] == "welcome"
    async with serve_replica() as replica, httpx.AsyncClient() as http:
        answer = await http.get(f"http://{replica.address}/v1/symbols", headers={"Origin": "null"})
        assert "access-control-allow-origin" not in answer.headers


async def test_refused_request_has_an_id_and_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "services")
    upgrade = {**UPGRADE_HEADERS, "X_Request_ID": "socket"}
    refused = [
        (get_with_host(EVIL, X_Request_ID="host"), "GET /v1/symbols 421", 421),
        (get_with_host("localhost", "/v1/stream?channels=no", X_Request_ID="stream"), "GET /v1/stream 422", 422),
        (get_with_host("localhost", "/nowhere", X_Request_ID="lost"), "GET /nowhere 404", 404),
        (get_with_host("localhost", "/v1/courses?direction=X", X_Request_ID="front"), "GET /v1/courses 422", 422),
        (
            get_with_host("localhost", "/ws/chart-data", **{**upgrade, "Origin": f"http://{EVIL}"}),
            "/ws/chart-data 403",
            403,
        ),
        (
            get_with_host("localhost", "/ws/chart-data", **{**upgrade, "Sec_WebSocket_Version": "8"}),
            "(not read) 400",
            400,
        ),
        (
            get_with_host("localhost", "/ws/chart-data", **{**upgrade, "Sec_WebSocket_Key": "short"}),
            "(not read) 400",
            400,
        ),
        (b"NONSENSE\r\n\r\n", "(not read) 400", 400),
    ]
    async with serve_replica() as replica:
        for sent, line, status in refused:
            caplog.clear()
            head, _, body = (await exchange_bytes(replica.address, sent)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status), (head, line)
            assert b"content-type: application/problem+json" in head.lower(), line
            (record,) = [each for each in caplog.records if each.name.startswith("services")]
            assert (record.levelname, record.message.endswith(line)) == ("INFO", True)
            identifier = vars(record)["request_id"].encode()
            assert b"x-request-id: " + identifier in head.lower()
            assert b'"request_id":"%b"' % identifier in body
