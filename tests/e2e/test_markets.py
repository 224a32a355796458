"""Both markets in one data folder: neither uses the other's data, and only one process writes there."""

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import Server, free_port
from tests.system import FAST_SETTINGS, kurs_process, run_command
from tests.waiting import wait_until

DEAD_PROXY = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}  # no exchange can be reached


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return {
        "KURS_DATA_DIR": str(tmp_path / "data"),
        "KURS_SYMBOLS": "BTC-USDT",
        "KURS_HISTORY_BARS": "50",
        **FAST_SETTINGS,
    }


@contextmanager
def start_market(folder: Path, market: str, data: dict[str, str], *words: str) -> Iterator[Server]:
    process = kurs_process(folder, *words, **{**DEAD_PROXY, **data, "KURS_MARKET": market})
    try:
        yield process.start()
    finally:
        process.stop()


def get(process: Server, path: str) -> httpx.Response:
    return httpx.get(process.url + path, timeout=20)


def wait_for_candles(process: Server, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(closed_candles(process)) >= count, f"{count} candles", 180)
    return closed_candles(process)


def closed_candles(process: Server) -> list[dict[str, Any]]:
    answer = get(process, "/api/chart-data?symbol=BTCUSDT&timeframe=1h&limit=41&fill=none")
    candles: list[dict[str, Any]] = answer.json().get("candles", [])
    return [candle for candle in candles if candle["timestamp"] < time.time() * 1000 - 3_600_000]


def test_simulated_data_is_never_served_exported_or_resumed_as_live(tmp_path: Path, data: dict[str, str]) -> None:
    with start_market(tmp_path, "simulated", data) as simulated_kurs:
        simulated = wait_for_candles(simulated_kurs, 40)
        events = get(simulated_kurs, "/v1/stream/history?channels=btc_usd").json()
        assert events["events"]
    with start_market(tmp_path, "live", data) as live:
        answers = [get(live, path) for path in ("/livez", "/v1/exchanges", "/v1/courses", "/v2/courses", "/nowhere")]
        assert {answer.headers["kurs-market"] for answer in answers} == {"live"}
        assert answers[1].json()["simulated"] is False
        assert answers[2].json().get("last_known", []) == []
        assert closed_candles(live) == []
        covered = get(live, "/api/candles/coverage?symbol=BTCUSDT&timeframe=1h").json()
        assert sum(row["present"] for row in covered["series"]) == 0
        resumed = get(live, f"/v1/stream/history?channels=btc_usd&after={events['cursor']}").json()
        assert (resumed["events"], resumed["reset"]) == ([], ["btc_usd"])
        assert (
            "kurs-simulated.db holds data of the simulated market; this process uses the live market"
            in (live.folder / "log").read_text()
        )
        other = export_candles(tmp_path, data, "live")
        assert other.returncode == 2
        assert export_candles(tmp_path, data, "simulated").returncode == 0
        rows = list(csv.DictReader((tmp_path / "candles.csv").read_text().splitlines()))
        assert {row["market"] for row in rows} == {"simulated"}
        assert len(rows) >= 40
        assert "live market: 0 series" in run_command(tmp_path, "verify", **{**data, "KURS_MARKET": "live"}).stdout
    with start_market(tmp_path, "auto", data) as again:
        assert get(again, "/livez").headers["kurs-market"] == "simulated"
        assert (
            closed_candles(again)[: len(simulated) - 2]
            == simulated[-len(closed_candles(again)) :][: len(simulated) - 2]
        )
        first, second = (
            int(events["cursor"]) % 2,
            int(get(again, "/v1/stream/history?channels=btc_usd").json()["cursor"]) % 2,
        )
        assert first == second == 1


def export_candles(folder: Path, data: dict[str, str], market: str) -> Any:
    return run_command(
        folder, "export", "BTCUSDT", "1h", str(folder / "candles.csv"), **{**data, "KURS_MARKET": market}
    )


def test_command_finds_the_market_that_has_data(tmp_path: Path, data: dict[str, str]) -> None:
    with start_market(tmp_path, "simulated", data) as simulated_kurs:
        wait_for_candles(simulated_kurs, 10)
    found = export_candles(tmp_path, data, "auto")
    assert found.returncode == 0, found.stderr
    assert "simulated market" in found.stdout


def test_second_process_on_a_folder_is_refused_but_readers_are_not(tmp_path: Path, data: dict[str, str]) -> None:
    with start_market(tmp_path, "simulated", data) as simulated_kurs:
        assert simulated_kurs.process
        for market in ("simulated", "live"):
            second = run_command(tmp_path, **{**data, "KURS_MARKET": market, "KURS_PORT": str(free_port())})
            assert second.returncode == 2
            assert f"is in use by process {simulated_kurs.process.pid}" in second.stderr
        dump = tmp_path / "BTCUSDT-1h-2024-01.csv"
        dump.write_text("")
        imported = run_command(tmp_path, "import", str(dump), **{**data, "KURS_MARKET": "simulated"})
        assert imported.returncode == 2
        assert "is in use by" in imported.stderr
        verified = run_command(tmp_path, "verify", **data)
        assert (verified.returncode, "broken" in verified.stdout) == (0, True)
        simulated_kurs.kill()
        with start_market(tmp_path, "simulated", data) as next_one:  # a lock ends with its holder
            assert get(next_one, "/livez").status_code == 200


def test_database_url_with_data_of_the_other_market_is_refused(tmp_path: Path, data: dict[str, str]) -> None:
    data["DATABASE_URL"] = f"sqlite+aiosqlite:///{tmp_path}/mine.db"
    with start_market(tmp_path, "simulated", data):
        pass
    refused = run_command(tmp_path, **{**data, "KURS_MARKET": "live", "KURS_PORT": str(free_port())})
    assert refused.returncode == 2
    assert "mine.db holds the simulated market" in refused.stderr
    assert "KURS_MARKET=simulated" in refused.stderr
