"""The simulator's control is for its own machine: what others ask for is refused, whatever their headers say."""

from typing import Any

import httpx
import pytest

from tests.simulated import played

ASKED = [("GET", "/faults"), ("POST", "/faults"), ("DELETE", "/faults"), ("DELETE", "/faults/1"), ("GET", "/ledger")]
ASKED += [("GET", "/market")]


async def answer(
    peer: str, method: str, path: str, headers: dict[str, str] | None = None, **settings: Any
) -> httpx.Response:
    transport = httpx.ASGITransport(played(**settings), client=(peer, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://kurs/simulator") as client:
        fault = {"exchange": "binance", "fault": "mute"} if method == "POST" else None
        return await client.request(method, path, json=fault, headers=headers)


@pytest.mark.parametrize(("method", "path"), ASKED)
@pytest.mark.parametrize("peer", ["192.168.7.9", "172.17.0.1", "2001:db8::1", "::ffff:10.0.0.5"])
async def test_others_are_refused_and_told_how_to_be_let_in(peer: str, method: str, path: str) -> None:
    refused = await answer(peer, method, path)
    assert refused.status_code == 403
    assert peer in refused.json()["detail"]
    assert "KURS_SIMULATOR_CONTROL=all" in refused.json()["detail"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_its_own_machine_is_let_in(peer: str) -> None:
    assert (await answer(peer, "POST", "/faults")).status_code == 201


async def test_headers_never_open_and_a_proxy_on_this_machine_is_for_others() -> None:
    claimed = {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}
    assert (await answer("192.168.7.9", "GET", "/ledger", claimed)).status_code == 403
    for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
        refused = await answer("127.0.0.1", "GET", "/ledger", {name: "192.168.7.9"})
        assert refused.status_code == 403
        assert "proxy" in refused.json()["detail"]


async def test_the_operator_may_open_it() -> None:
    assert (await answer("192.168.7.9", "GET", "/ledger", simulator_control="all")).status_code == 200


async def test_the_exchanges_are_open_to_everyone() -> None:
    assert (await answer("192.168.7.9", "GET", "/binance/api/v3/time")).status_code == 200
