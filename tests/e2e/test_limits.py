"""The default limits on a real process: charts, the docs and `kurs watch` live within them, a flood does not."""

from pathlib import Path

import httpx

from tests.system import FAST_SETTINGS, kurs_process, single_process
from tests.waiting import wait_until

POLLS = 150  # what a chart requests in two minutes and a half
PAGE = ("/", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json")
CHART = ("/api/symbols", "/api/timeframes", "/api/indicators/catalog", "/api/chart-data?symbol=BTCUSDT&timeframe=1m")


def udf_session(client: httpx.Client) -> list[httpx.Response]:
    """Open a chart as TradingView's library does, and poll."""
    paths = ["/udf/config", "/udf/symbols?symbol=BTCUSDT", "/udf/search?query=BTC&limit=30", "/udf/time"]
    paths += [f"/udf/history?symbol=BTCUSDT&resolution=1&to={2**31 - page}&countback=300" for page in range(5)]
    paths += [f"/udf/history?symbol=BTCUSDT&resolution=1&to={2**31}&countback=2", "/udf/quotes?symbols=BTCUSDT"] * POLLS
    return [client.get(path) for path in paths]


def test_clients_live_within_the_default_limits_and_a_flood_is_refused(tmp_path: Path) -> None:
    env = {name: value for name, value in FAST_SETTINGS.items() if name != "API_RATE_LIMIT"}
    with single_process(tmp_path, {**env, "KURS_HISTORY_BARS": "0"}) as system:
        watching = kurs_process(tmp_path, "watch", "btc_usd", KURS_PORT=system.url.rpartition(":")[2])
        watching.launch()
        try:
            with httpx.Client(base_url=system.url, timeout=30) as client:
                wait_until(lambda: "BTC-USD" in watching.log(), "rate", details=watching.log)
                responses = udf_session(client) + [client.get(path) for path in (*PAGE, *CHART)]
                responses += [client.get("/v1/courses") for _ in range(2 * POLLS)]
                assert {response.status_code for response in responses} <= {200, 307}
                assert "kurs_quota_refusals_total{" not in client.get("/metrics").text
                statuses = [client.get("/v1/timeframes").status_code for _ in range(100)]
                assert statuses == [200] * (100 - len(CHART)) + [429] * len(CHART)
                assert f'kurs_quota_refusals_total{{policy="api"}} {len(CHART)}.0' in client.get("/metrics").text
                assert client.get("/v1/courses").status_code == 200
            assert "429" not in watching.log()
        finally:
            watching.stop()
