"""The simulator as a process of its own: at any address, and by TLS."""

import asyncio
import socket
import ssl
import stat
import time
from pathlib import Path

import httpx
import pytest
import websockets

from services.listeners import bind
from services.settings import Settings
from tests.servers import free_port
from tests.system import kurs_process, refusal_line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost", "::", "::1"])
def test_a_port_is_reached_from_its_own_machine_at_any_address(host: str) -> None:
    settings = Settings(_env_file=None, host=host, port=0)
    with bind(settings) as listener:
        listener.listen()
        url = httpx.URL(settings.own_url(listener.getsockname()[1]))
        with socket.create_connection((url.host, url.port or 80), timeout=5):
            pass


async def test_at_another_address_it_is_found_and_speaks_tls(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    env = {"KURS_HOST": "::1", "KURS_SIMULATOR_TLS_PORT": str(port), "KURS_DATA_DIR": str(data)}
    process = kurs_process(tmp_path, "collector", "simulator", **env)
    try:
        await asyncio.to_thread(process.start)
        trust = ssl.create_default_context(cafile=data / "simulator-cert.pem")
        trust.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python has it from 3.13 on
        async with httpx.AsyncClient(base_url=f"https://[::1]:{port}/simulator", verify=trust) as client:
            connected, deadline = set[str](), time.monotonic() + 20
            while not connected >= {"binance", "deribit"}:  # the collector found it at the other port
                assert time.monotonic() < deadline
                lines = (await client.get("/ledger")).json()["connections"]
                connected = {line["exchange"] for line in lines}
        address = f"wss://127.0.0.1:{port}/simulator/binance/ws/btcusdt@bookTicker"
        with pytest.raises(OSError, match="Connect call failed"):
            await websockets.connect(address, ssl=trust)  # it listens where the other port does
        async with websockets.connect(address.replace("127.0.0.1", "[::1]"), ssl=trust) as stream:
            assert "BTCUSDT" in await asyncio.wait_for(stream.recv(decode=True), 10)
        assert stat.S_IMODE((data / "simulator-tls.pem").stat().st_mode) == 0o600
    finally:
        await asyncio.to_thread(process.stop)


def test_a_certificate_that_is_none_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    line = refusal_line(tmp_path, "simulator", KURS_SIMULATOR_TLS_PORT="0", KURS_SIMULATOR_TLS_CERT="cert.pem")
    assert "KURS_SIMULATOR_TLS_CERT" in line
    assert "cert.pem must be a certificate in PEM" in line
