"""An exchange added as one file to a copy of Kurs: it is collected, priced, charted and listed."""

import json
import shutil
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from services.core.timeframes import TIMEFRAMES
from tests.servers import Server
from tests.system import ROOT, kurs_process, run_command
from tests.waiting import wait_until

BTC = {"KURS_DIRECTIONS": "BTC-USD", "KURS_SYMBOLS": "BTC-USD", "KURS_EXCHANGES": "mtgox", "KURS_HISTORY_BARS": "5"}


class Venue(BaseHTTPRequestHandler):
    """The HTTP server of the exchange."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        now = time.time_ns() // 1_000_000
        if url.path == "/prices":
            self._respond({"BTC-USD": {"bid": "49999.5", "ask": "50000.5", "time": now}})
            return
        query = dict(parse_qsl(url.query))
        timeframe = TIMEFRAMES[query["timeframe"]]
        opened = timeframe.open_times(int(query["since"]), int(query["until"]))
        closed = [at for at in opened if timeframe.close_time(at) <= now]
        self._respond([[at, "50000", "50001", "49999", "50000", "1.5"] for at in closed])

    def _respond(self, body: object) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:  # nothing in the tests' output
        pass


@pytest.fixture
def venue() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Venue)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def extended(tmp_path: Path, venue: str) -> dict[str, str]:
    """The environment of a copy of Kurs with one additional file."""
    code = tmp_path / "code"
    shutil.copytree(ROOT / "services", code / "services", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "migrations", code / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "e2e" / "mtgox.py", code / "services" / "exchanges")
    data = {"KURS_DATA_DIR": str(tmp_path / "data"), "API_RATE_LIMIT": "0"}
    return {"PYTHONPATH": str(code), "MTGOX_URL": venue, **data, **BTC}


def wait_for(process: Server, path: str, **query: str) -> Any:
    """Wait for a response with 200 and candles or rates, and return its body."""
    bodies = list[Any]()

    def has_rows() -> bool:
        response = httpx.get(process.url + path, params=query, timeout=20)
        bodies.append(response.json())
        return response.status_code == 200 and bool(bodies[-1].get("candles") or bodies[-1].get("courses"))

    wait_until(has_rows, f"rows of {path}", details=lambda: (bodies[-1], process.log()[-2000:]))
    return bodies[-1]


def test_exchange_in_an_added_file_is_collected_priced_and_charted(tmp_path: Path, extended: dict[str, str]) -> None:
    process = kurs_process(tmp_path, **extended, KURS_MARKET="live")
    try:
        process.start()
        (course,) = wait_for(process, "/v2/courses")["courses"]
        assert (course["exchange"], course["value"], course["quality"]) == ("mtgox", "50000", "direct")
        candles = wait_for(process, "/api/chart-data", symbol="MTGOX:BTCUSD", timeframe="1m")["candles"]
        assert {(candle["close"], candle["source"]) for candle in candles if candle["closed"]} == {(50000, "exchange")}
        (direction,) = httpx.get(f"{process.url}/v1/directions").json()["directions"]
        (route,) = direction["routes"]
        assert [(leg["exchange"], leg["instrument"]) for leg in route["legs"]] == [("mtgox", "BTC-USD")]
        assert httpx.get(f"{process.url}/v1/exchanges").json()["in_use"]["exchange"] == "mtgox"
    finally:
        process.stop()


def test_exchange_without_a_simulator_is_refused_in_a_simulated_market(
    tmp_path: Path, extended: dict[str, str]
) -> None:
    ended = run_command(tmp_path, **extended, KURS_MARKET="simulated")
    assert ended.returncode == 2
    assert "KURS_EXCHANGES: mtgox has no simulated market" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_exchange_without_a_file_is_refused_with_the_names_of_all(tmp_path: Path, extended: dict[str, str]) -> None:
    ended = run_command(tmp_path, **{**extended, "KURS_EXCHANGES": "kraken"}, KURS_MARKET="live")
    assert "'kraken' is not one of binance, coingecko, deribit, mtgox" in ended.stderr
