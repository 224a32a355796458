"""A process as its supervisor and its operator meet it: start, last known rates, wrong settings, stop."""

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

import httpx
import pytest

from tests.servers import Server, free_port
from tests.system import FAST_SETTINGS, ROOT, kurs_process

MAX_STOP_SECONDS = 5
STALE_AT_ONCE = {"KURS_REFERENCE_SECONDS": "0.001", "KURS_REFERENCE_PRICE_SECONDS": "0.001"}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return {"KURS_DATA_DIR": str(tmp_path / "data"), **FAST_SETTINGS}


@pytest.fixture
def process(tmp_path: Path, data: dict[str, str]) -> Iterator[Server]:
    """All of Kurs in one process."""
    whole = kurs_process(tmp_path, **data)
    yield whole.start()
    whole.stop()


def first_response(url: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + 30
    while (answer := httpx.get(f"{url}/v1/courses")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    return answer


def test_last_known_rates_are_shown_but_refused_after_a_restart(
    tmp_path: Path, process: Server, data: dict[str, str]
) -> None:
    first_response(process.url, 200)
    wait_for_log(process, f"rates are fresh: {process.url}/v1/courses")
    deadline = time.monotonic() + 30
    while not has_stored_rates(tmp_path / "data" / "kurs-simulated.db"):
        assert time.monotonic() < deadline, "no rate was saved"
        time.sleep(0.1)
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
    deadline = time.monotonic() + 30
    while text not in process.log():
        assert time.monotonic() < deadline, process.log()
        time.sleep(0.05)
    return process.log()


def test_log_has_the_public_address_and_not_the_listening_one(tmp_path: Path, data: dict[str, str]) -> None:
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
    words = ["migrate"] if setting == "DATABASE_URL" else ["pricer"]
    waiting = kurs_process(tmp_path, *words, **{"KURS_DATA_DIR": str(tmp_path / "data"), setting: url})
    try:
        waiting.launch()
        assert "docker-compose.servers.yml" in wait_for_log(waiting, hint)
    finally:
        waiting.stop()


def has_stored_rates(database: Path) -> bool:
    """Whether the writer has saved a value of each direction."""
    with closing(sqlite3.connect(database)) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM rates")]
    return len(bodies) == 8 and all('"value":"' in body for body in bodies)


def test_without_network_auto_simulates_and_live_refuses_rates(tmp_path: Path, data: dict[str, str]) -> None:
    cut_off = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1", **data}
    played = kurs_process(tmp_path, **cut_off, KURS_MARKET="auto")
    try:
        assert first_response(played.start().url, 200).headers["kurs-market"] == "simulated"
        assert httpx.get(f"{played.url}/v2/courses").json()["simulated"] is True
        assert "market: SIMULATED" in played.log()
    finally:
        played.stop()
    live = kurs_process(tmp_path, **cut_off, KURS_MARKET="live")
    try:
        refused = first_response(live.start().url, 503)
        assert refused.headers["retry-after"]
        deadline = time.monotonic() + 30
        while (states := httpx.get(f"{live.url}/v1/exchanges").json())["exchanges"][0]["reason"] == "not connected yet":
            assert time.monotonic() < deadline, states
            time.sleep(0.1)
        assert (states["simulated"], states["exchanges"][0]["connected"]) == (False, False)
    finally:
        live.stop()


def test_process_reaches_itself_at_any_address_and_past_dead_proxies(tmp_path: Path, data: dict[str, str]) -> None:
    nowhere = f"socks5://kurs:a-secret@127.0.0.1:{free_port()}"
    proxies = dict.fromkeys(("HTTP_PROXY", "https_proxy", "ALL_PROXY"), nowhere)
    there = {"KURS_HOST": "127.0.0.2", "NO_PROXY": "[::1], 10.0.0.0/8, ,bücher.example", **proxies}
    process = kurs_process(tmp_path, **data, **there)
    watching = kurs_process(tmp_path, "watch", "btc_usd", **there, KURS_PORT=process.url.rpartition(":")[2])
    try:
        first_response(process.start().url, 200)
        watching.launch()
        deadline = time.monotonic() + 30
        while "BTC-USD" not in watching.log():
            assert time.monotonic() < deadline, watching.log()
            time.sleep(0.1)
        assert "a-secret" not in process.log() + watching.log()
    finally:
        watching.stop()
        process.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_and_in_peace(process: Server, number: signal.Signals) -> None:
    first_response(process.url, 200)
    running = process.process
    assert running is not None
    begun = time.monotonic()
    running.send_signal(number)
    assert running.wait(MAX_STOP_SECONDS) == 0
    assert time.monotonic() - begun < MAX_STOP_SECONDS
    assert "Traceback" not in process.log()


def test_a_taken_port_and_wrong_settings_are_refused_in_one_line(tmp_path: Path) -> None:
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
                timeout=60,
            )
            assert run.returncode == 2
            assert part in run.stderr
            assert "Traceback" not in run.stderr
            assert "a-secret" not in run.stderr


def test_a_reader_that_has_enough_ends_a_command_in_peace() -> None:
    line = [sys.executable, "-m", "services", "openapi"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
