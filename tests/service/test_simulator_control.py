"""The simulator's control API is open to its own machine only, whatever a request's headers say."""

from typing import Any

import httpx
import pytest

from tests.simulator import simulator_app

CONTROL_REQUESTS = [
    ("GET", "/faults"),
    ("POST", "/faults"),
    ("DELETE", "/faults"),
    ("DELETE", "/faults/1"),
    ("GET", "/ledger"),
]
CONTROL_REQUESTS += [("GET", "/market")]
MUTE_FAULT = {"exchange": "binance", "fault": "mute"}


async def respond_to(
    peer: str, method: str, path: str, headers: dict[str, str] | None = None, **settings: Any
) -> httpx.Response:
    transport = httpx.ASGITransport(simulator_app(**settings), client=(peer, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000/simulator") as client:
        return await client.request(method, path, json=MUTE_FAULT if method == "POST" else None, headers=headers)


@pytest.mark.parametrize(("method", "path"), CONTROL_REQUESTS)
@pytest.mark.parametrize("peer", ["192.168.7.9", "172.17.0.1", "2001:db8::1", "::ffff:10.0.0.5"])
async def test_request_from_another_machine_is_refused_with_the_settings_name(
    peer: str, method: str, path: str
) -> None:
    refused = await respond_to(peer, method, path)
    assert refused.status_code == 403
    assert peer in refused.json()["detail"]
    assert "KURS_SIMULATOR_CONTROL=all" in refused.json()["detail"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_request_from_the_own_machine_is_accepted(peer: str) -> None:
    assert (await respond_to(peer, "POST", "/faults")).status_code == 201


async def test_forwarding_headers_never_admit_a_client() -> None:
    claimed = {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}
    assert (await respond_to("192.168.7.9", "GET", "/ledger", claimed)).status_code == 403
    for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
        refused = await respond_to("127.0.0.1", "GET", "/ledger", {name: "192.168.7.9"})
        assert refused.status_code == 403
        assert "proxy" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("evil.example:8000", None, 403),  # a page's domain that was pointed here after the page had loaded
        ("evil.example:8000", "http://evil.example:8000", 403),
        ("localhost:8000", "http://evil.example:8000", 403),
        ("localhost:8000", "http://localhost:5173", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "http://localhost:8000", 201),
        ("127.0.0.1:8000", None, 201),
        ("[::1]:8000", None, 201),
        ("own.example:8000", "http://own.example:8000", 201),
    ],
)
async def test_browser_page_of_another_origin_is_refused(host: str, origin: str | None, status: int) -> None:
    headers = {"host": host} | ({"origin": origin} if origin else {})
    settings = {"host": "0.0.0.0", "allowed_hosts": "own.example"}
    assert (await respond_to("127.0.0.1", "POST", "/faults", headers, **settings)).status_code == status


async def test_setting_opens_the_control_api_to_all() -> None:
    page = {"host": "evil.example", "origin": "http://evil.example"}
    assert (await respond_to("192.168.7.9", "GET", "/ledger", page, simulator_control="all")).status_code == 200


DEEP_JSON = "[" * 900 + "]" * 900
ODD_FAULTS = [
    *(f'"seconds": {seconds}' for seconds in ("Infinity", "1e400", "1e300", "NaN", "0", "true")),
    *(f'"{name}": {value}' for name in ("exchange", "fault", "instrument") for value in ("{}", "[]", DEEP_JSON, "1")),
    '"\\ud800": 1',
    '"fault": "\\ud800"',
]


@pytest.mark.parametrize("odd", ODD_FAULTS, ids=lambda text: text[:25])
async def test_malformed_fault_is_refused(odd: str) -> None:
    transport = httpx.ASGITransport(simulator_app(), client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/simulator") as client:
        body = f'{{"exchange": "binance", "fault": "mute", {odd}}}'  # of a repeated key the last one counts
        refused = await client.post("/faults", content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, (await client.get("/faults")).json()["active"]) == (422, [])
        assert refused.json()["detail"]


async def test_exchanges_are_open_to_every_client() -> None:
    assert (await respond_to("192.168.7.9", "GET", "/binance/api/v3/time")).status_code == 200
