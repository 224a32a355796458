"""The collector behind proxies and TLS inspection, with an exchange that only the proxy can reach."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from services.collector.reachability import unreachable_reason
from services.core.exchange import Exchange
from services.core.model import FeedStatus
from services.exchanges import EXCHANGES
from services.outbound import http_client
from services.settings import Settings
from tests.proxy import run_proxy
from tests.relay import LOOPBACK
from tests.simulator import SimulatorServer, run_collector, run_simulator
from tests.tls import PEM, tls_proxy
from tests.waiting import eventually

HOST, ADDRESS = "exchange.example", "198.51.100.7"  # a name and an address reserved for documentation
PASSWORD = "hunter2-very-secret"


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_simulator() as market:
        yield market


@pytest_asyncio.fixture(scope="module")
async def tls_port(market: SimulatorServer, trusted: Path) -> AsyncIterator[int]:
    async with tls_proxy(urlsplit(market.root).port or 0, trusted.parent, HOST, ADDRESS) as (port, _):
        yield port


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls") / PEM


@pytest.fixture(autouse=True)
def _without_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def behind_proxy(name: str, host: str = HOST) -> Exchange:
    """Return a simulated exchange under an address that only a proxy can reach."""
    return EXCHANGES[name].simulated_at(f"https://{host}/simulator")


@pytest.mark.parametrize(
    ("scheme", "host", "kind"),
    [
        ("http", HOST, "CONNECT"),
        ("https", HOST, "CONNECT"),
        ("socks5h", HOST, "SOCKS5"),
        ("socks5", ADDRESS, "SOCKS5"),
        ("socks4a", HOST, "SOCKS4"),
    ],
)
async def test_collector_reaches_its_exchange_through_the_proxy_only(
    tls_port: int, trusted: Path, scheme: str, host: str, kind: str
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(trusted)
    async with run_proxy(tls_port, tls if scheme == "https" else None) as proxy:
        names: dict[str, Any] = {
            "HTTPS_PROXY": f"{scheme}://kurs:{PASSWORD}@{LOOPBACK}:{proxy.port}",
            "SSL_CERT_FILE": str(trusted),
        }
        async with run_collector(behind_proxy("binance", host), **names) as messages:
            await eventually(lambda: messages.feed_status("binance", "BTC-USDT") is FeedStatus.LIVE)
        state = messages.last_status("binance")
    assert state
    assert (state.transport, state.host) == ("socket", host)
    assert set(proxy.targets) == {f"{kind} {host}:443"}
    assert proxy.users == {"kurs" if kind == "SOCKS4" else f"kurs:{PASSWORD}"}


async def test_loopback_is_reached_without_a_proxy(market: SimulatorServer) -> None:
    names: dict[str, Any] = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"socks5h://{LOOPBACK}:9")
    async with run_collector(market.exchange("binance"), **names) as messages:
        await eventually(lambda: messages.feed_status("binance", "BTC-USDT") is FeedStatus.LIVE)


async def test_untrusted_certificate_is_logged_in_one_line_with_advice(
    tls_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    reason = (
        f"{HOST}: its certificate cannot be verified: self-signed certificate: where TLS is inspected, name the file"
        " with the inspector's CA in SSL_CERT_FILE (through the proxy http://127.0.0.1:"
    )
    async with run_proxy(tls_port) as proxy:
        names: dict[str, Any] = {
            "HTTPS_PROXY": f"http://kurs:{PASSWORD}@{LOOPBACK}:{proxy.port}",
            "SSL_CERT_FILE": "",
            "SSL_CERT_DIR": "",
        }
        with caplog.at_level(logging.WARNING, "services.collector"):
            async with run_collector(behind_proxy("deribit"), behind_proxy("binance"), **names) as messages:
                for name, text in (("deribit", reason), ("binance", reason.replace(": its", " did not respond: its"))):
                    await eventually(lambda: text in getattr(messages.last_status(name), "reason", ""))  # noqa: B023  awaited in this turn
                await eventually(lambda: len(proxy.targets) >= 6)  # both retry
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(record.getMessage().split(":")[0] for record in lines) == ["binance", "deribit"]
    assert not any(record.exc_info for record in lines)
    assert PASSWORD not in caplog.text


@asynccontextmanager
async def run_fixed_proxy(answer: bytes | None) -> AsyncIterator[int]:
    """Serve one response on a port and close, or with None wait and respond nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            if answer is None:
                await reader.read()
            writer.write(answer or b"")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
        ("http", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("socks5", b"\x05\xff"),
        ("socks5", b"\x05"),
        ("socks5h", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("socks4", b"\x00\x5b\0\0\0\0\0\0"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ],
)
async def test_proxy_that_refuses_is_named_in_the_reason(
    caplog: pytest.LogCaptureFixture, scheme: str, answer: bytes
) -> None:
    async with run_fixed_proxy(answer) as port:
        names: dict[str, Any] = {"HTTPS_PROXY": f"{scheme}://kurs:{PASSWORD}@{LOOPBACK}:{port}"}
        with caplog.at_level(logging.DEBUG):
            reason = await unreachable_reason([behind_proxy("deribit", ADDRESS)], Settings(_env_file=None, **names), 5)
            async with run_collector(behind_proxy("deribit", ADDRESS), **names) as messages:
                through = f"(through the proxy {scheme}://{LOOPBACK}:{port})"
                await eventually(lambda: through in getattr(messages.last_status("deribit"), "reason", ""))
    assert reason
    assert reason.endswith(through)
    assert not any(record.exc_info for record in caplog.records)
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks4"])
async def test_silent_proxy_times_out(scheme: str) -> None:
    async with run_fixed_proxy(None) as port:
        names: dict[str, Any] = {"HTTPS_PROXY": f"{scheme}://{LOOPBACK}:{port}"}
        settings = Settings(_env_file=None, **names)
        async with http_client(settings, timeout=0.5) as client, asyncio.timeout(60):
            with pytest.raises(httpx.TransportError):
                await client.get(f"https://{ADDRESS}/")
