"""Start and stop of a process: last known rates, log lines, wrong settings, signals."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import Server, free_port
from tests.system import FAST_SETTINGS, ROOT, kurs_process
from tests.waiting import wait_until

MAX_STOP_SECONDS = 30  # on a busy machine
STALE_AT_ONCE = {"KURS_REFERENCE_SECONDS": "0.001", "KURS_REFERENCE_PRICE_SECONDS": "0.001"}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return {"KURS_DATA_DIR": str(tmp_path / "data"), **FAST_SETTINGS}


@pytest.fixture
def process(tmp_path: Path, data: dict[str, str]) -> Iterator[Server]:
    """All of Kurs in one process."""
    kurs = kurs_process(tmp_path, **data)
    yield kurs.start()
    kurs.stop()


def first_response(url: str, status: int) -> httpx.Response:
    """Wait until /v1/courses responds with that status, and return the response."""
    responses = list[httpx.Response]()

    def has_status() -> bool:
        responses.append(httpx.get(f"{url}/v1/courses", timeout=20))
        return responses[-1].status_code == status

    wait_until(has_status, f"response with {status}", details=lambda: responses[-1].text)
    return responses[-1]


def test_stale_rates_are_last_known_ones_but_not_served_after_a_restart(
    tmp_path: Path, process: Server, data: dict[str, str]
) -> None:
    first_response(process.url, 200)
    wait_for_log(process, f"rates are fresh: {process.url}/v1/courses")
    wait_until(lambda: has_stored_rates(tmp_path / "data" / "kurs-simulated.db"), "stored rates")
    process.stop()
    nowhere = f"http://127.0.0.1:{free_port()}/simulator"
    again = kurs_process(tmp_path, **data, KURS_SIMULATOR_URL=nowhere, **STALE_AT_ONCE)
    try:
        problem = first_response(again.start().url, 503).json()
        assert {row["direction"] for row in problem["last_known"]} >= {"BTC-USD", "USDTTRC-RUB"}
        assert all(row["age_ms"] > 0 for row in problem["last_known"])
        assert "s old" in problem["detail"]
        assert httpx.get(f"{again.url}/readyz").status_code == 503
        assert httpx.get(f"{again.url}/livez").status_code == 200
    finally:
        again.stop()


def wait_for_log(process: Server, text: str) -> str:
    wait_until(lambda: text in process.log(), f"'{text}' in the log", details=process.log)
    return process.log()


def test_log_names_the_public_url_instead_of_the_listening_address(tmp_path: Path, data: dict[str, str]) -> None:
    served = kurs_process(tmp_path, **data, KURS_HOST="0.0.0.0", KURS_PUBLIC_URL="https://rates.example/")
    bare = kurs_process(tmp_path, "api", KURS_HOST="0.0.0.0")
    try:
        served.launch()
        bare.launch()
        log = wait_for_log(served, "rates are fresh: https://rates.example/v1/courses")
        assert "0.0.0.0" not in log
        port = bare.env["KURS_PORT"]
        assert "0.0.0.0" not in wait_for_log(bare, f"current rates at http://127.0.0.1:{port}/v1/courses")
    finally:
        served.stop()
        bare.stop()


@pytest.mark.parametrize(
    ("setting", "url", "hint"),
    [
        ("DATABASE_URL", "postgresql+asyncpg://kurs@no-such-host.invalid/kurs", "The host name is not known here"),
        ("REDIS_URL", "redis://no-such-host.invalid/0", "The host name is not known here"),
        ("RABBITMQ_URL", "amqp://kurs@no-such-host.invalid/", "The host name is not known here"),
    ],
)
def test_unresolvable_server_is_waited_for_with_a_hint(tmp_path: Path, setting: str, url: str, hint: str) -> None:
    arguments = ["migrate"] if setting == "DATABASE_URL" else ["pricer"]
    waiting = kurs_process(tmp_path, *arguments, **{"KURS_DATA_DIR": str(tmp_path / "data"), setting: url})
    try:
        waiting.launch()
        assert "docker-compose.servers.yml" in wait_for_log(waiting, hint)
    finally:
        waiting.stop()


def has_stored_rates(database: Path) -> bool:
    """Return whether the writer has saved a rate of each direction."""
    with closing(sqlite3.connect(database)) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM rates")]
    return len(bodies) == 8 and all('"value":"' in body for body in bodies)


def test_without_network_auto_simulates_and_live_refuses_rates(tmp_path: Path, data: dict[str, str]) -> None:
    cut_off = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1", **data}
    simulated = kurs_process(tmp_path, **cut_off, KURS_MARKET="auto")
    try:
        assert first_response(simulated.start().url, 200).headers["kurs-market"] == "simulated"
        assert httpx.get(f"{simulated.url}/v2/courses").json()["simulated"] is True
        assert "market: SIMULATED" in simulated.log()
    finally:
        simulated.stop()
    live = kurs_process(tmp_path, **cut_off, KURS_MARKET="live")
    try:
        refused = first_response(live.start().url, 503)
        assert refused.headers["retry-after"]
        wait_until(lambda: exchanges(live)["exchanges"][0]["reason"] != "not connected yet", "reason of an exchange")
        statuses = exchanges(live)
        assert (statuses["simulated"], statuses["exchanges"][0]["connected"]) == (False, False)
    finally:
        live.stop()


def exchanges(process: Server) -> Any:
    return httpx.get(f"{process.url}/v1/exchanges", timeout=20).json()


def test_process_reaches_itself_at_any_address_and_past_dead_proxies(tmp_path: Path, data: dict[str, str]) -> None:
    nowhere = f"socks5://kurs:a-secret@127.0.0.1:{free_port()}"
    proxies = dict.fromkeys(("HTTP_PROXY", "https_proxy", "ALL_PROXY"), nowhere)
    unreachable_proxies = {"KURS_HOST": "127.0.0.2", "NO_PROXY": "[::1], 10.0.0.0/8, ,bücher.example", **proxies}
    process = kurs_process(tmp_path, **data, **unreachable_proxies)
    watching = kurs_process(
        tmp_path, "watch", "btc_usd", **unreachable_proxies, KURS_PORT=process.url.rpartition(":")[2]
    )
    try:
        first_response(process.start().url, 200)
        watching.launch()
        wait_until(lambda: "BTC-USD" in watching.log(), "a rate", details=watching.log)
        assert "a-secret" not in process.log() + watching.log()
    finally:
        watching.stop()
        process.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_process_with_0(process: Server, number: signal.Signals) -> None:
    first_response(process.url, 200)
    running = process.process
    assert running is not None
    begun = time.monotonic()
    running.send_signal(number)
    assert running.wait(MAX_STOP_SECONDS) == 0
    assert time.monotonic() - begun < MAX_STOP_SECONDS
    assert "Traceback" not in process.log()


def test_used_port_and_wrong_settings_are_refused_without_traceback_or_secret(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for env, part in (
            ({"KURS_PORT": port}, "Address already in use"),
            ({"KURS_FRESH_SECONDS": "soon"}, "KURS_FRESH_SECONDS"),
            ({"KURS_EXCHANGES": "binance,kraken"}, "KURS_EXCHANGES: 'kraken'"),
            ({"ALL_PROXY": "ftp://kurs:a-secret@127.0.0.1"}, "ALL_PROXY: a proxy's URL must start with one of http://"),
            ({"KURS_DIRECTIONS": "BTC-USD,BTC-XYZ"}, "KURS_DIRECTIONS: BTC-XYZ: XYZ is neither"),
            ({"KURS_SIMULATOR_REPLAY": "nowhere.csv"}, "KURS_SIMULATOR_REPLAY: the name of nowhere.csv"),
        ):
            run = subprocess.run(
                [sys.executable, "-m", "services"],
                cwd=tmp_path,
                env={**os.environ, "KURS_MARKET": "simulated", **env},
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
            assert run.returncode == 2
            assert part in run.stderr
            assert "Traceback" not in run.stderr
            assert "a-secret" not in run.stderr


def test_command_on_a_closed_pipe_ends_without_an_error_text() -> None:
    line = [sys.executable, "-m", "services", "openapi"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
