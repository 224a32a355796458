"""The simulator in its own process, at any address and with TLS."""

import asyncio
import socket
import ssl
import stat
from pathlib import Path

import httpx
import pytest
import websockets

from services.listeners import bind
from services.settings import Settings
from tests.servers import free_port
from tests.system import kurs_process, refusal_line
from tests.waiting import eventually


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost", "::", "::1"])
def test_own_url_reaches_a_listener_on_any_host(host: str) -> None:
    settings = Settings(_env_file=None, host=host, port=0)
    with bind(settings) as listener:
        listener.listen()
        url = httpx.URL(settings.own_url(listener.getsockname()[1]))
        with socket.create_connection((url.host, url.port or 80), timeout=60):
            pass


async def test_simulator_at_another_address_serves_its_collector_and_tls(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    env = {"KURS_HOST": "::1", "KURS_SIMULATOR_TLS_PORT": str(port), "KURS_DATA_DIR": str(data)}
    process = kurs_process(tmp_path, "collector", "simulator", **env)
    try:
        await asyncio.to_thread(process.start)
        trust = ssl.create_default_context(cafile=data / "simulator-cert.pem")
        trust.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        async with httpx.AsyncClient(base_url=f"https://[::1]:{port}/simulator", verify=trust) as client:

            async def collector_connected() -> bool:  # at the port without TLS
                connections = (await client.get("/ledger")).json()["connections"]
                return {each["exchange"] for each in connections} >= {"binance", "deribit"}

            await eventually(collector_connected)
        address = f"wss://127.0.0.1:{port}/simulator/binance/ws/btcusdt@bookTicker"
        with pytest.raises(OSError, match="Connect call failed"):
            await websockets.connect(address, ssl=trust)  # both ports are on the same address
        async with websockets.connect(address.replace("127.0.0.1", "[::1]"), ssl=trust) as stream:
            assert "BTCUSDT" in await asyncio.wait_for(stream.recv(decode=True), 60)
        assert stat.S_IMODE((data / "simulator-tls.pem").stat().st_mode) == 0o600
    finally:
        await asyncio.to_thread(process.stop)


def test_invalid_tls_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    line = refusal_line(tmp_path, "simulator", KURS_SIMULATOR_TLS_PORT="0", KURS_SIMULATOR_TLS_CERT="cert.pem")
    assert "KURS_SIMULATOR_TLS_CERT" in line
    assert "cert.pem must be a certificate in PEM" in line
