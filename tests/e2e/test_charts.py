"""A chart library in a real browser reads the UDF endpoint: it draws, and scrolls back to the end of history."""

import asyncio
import json
import math
import re
import time
from decimal import Decimal
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services import api
from services.adapters import sql
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import MINUTE_MS
from services.exchanges import configured_exchanges
from services.settings import Settings
from services.web import AppSpec, create_app
from services.web.rate_limiter import ClientRateLimiter
from tests import browser
from tests.api import exchange_status
from tests.conftest import require_installed
from tests.deps import make_deps
from tests.servers import find_program
from tests.simulator import serve_app

GUIDE = (Path(__file__).parents[2] / "docs/candles.md").read_text()
LIBRARY = "lightweight-charts@5.2.1"
CHART_BARS = 777


async def run(*arguments: str, seconds: float) -> str:
    """Run a program and return its output."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, errors.decode()[-2000:]
    return output.decode()


class ChartApp:
    """The page and the library beside Kurs on one origin."""

    def __init__(self, kurs: ASGIApp, library: Path) -> None:
        self._kurs = kurs
        self.statuses = set[int]()
        self._files = {
            "/chart": (b"text/html", (Path(__file__).parent / "chart.html").read_bytes()),
            "/charts.js": (b"text/javascript", library.read_bytes()),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._files:
            await self._kurs(scope, receive, self._noting(send))
            return
        kind, body = self._files[scope["path"]]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})

    def _noting(self, send: Send) -> Send:
        async def send_and_note(message: Message) -> None:
            self.statuses.add(message.get("status", 200))
            await send(message)

        return send_and_note


async def candles(series: Series) -> list[Candle]:
    """Return the last minutes, with a gap of an hour and a half."""
    forming = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    stored = []
    for back in [*range(CHART_BARS + 90, 300, -1), *range(210, -1, -1)]:
        price = Decimal(97_000 + round(200 * math.sin(back / 60)) + back % 7) + Decimal("0.125")
        bar = Bar(
            forming - back * MINUTE_MS, price, price + 30, price - 30, price + 20 - back % 40, Decimal(1), price, 5
        )
        stored.append(Candle(series, bar, back > 0, CandleSource.EXCHANGE))
    return stored


async def test_chart_draws_all_candles_and_scrolling_back_ends(tmp_path: Path) -> None:
    npm = require_installed(lambda: find_program("npm"))
    await run(npm, "install", "--silent", "--prefix", str(tmp_path), LIBRARY, seconds=120)
    library = tmp_path / "node_modules/lightweight-charts/dist/lightweight-charts.standalone.production.js"
    database, settings = f"sqlite+aiosqlite:///{tmp_path}/kurs.db", Settings(_env_file=None)
    await sql.migrate(database)
    store = await sql.connect(database)
    stored = await candles(Series("binance", Instrument("BTC", "USDT"), "1m"))
    await store.save(*stored)
    deps = make_deps(settings, store=store, exchanges=configured_exchanges(settings))
    for exchange in deps.exchanges:  # their collectors have loaded all history
        deps.hub.exchange_statuses[exchange.name] = exchange_status(exchange.name, deps.clock.monotonic() + 600_000)
    limiter = ClientRateLimiter(settings=settings, clock=deps.clock, cache=deps.cache)
    site = AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), limiter=limiter)
    chart = ChartApp(create_app(deps, site), library)
    async with serve_app(chart) as address, browser.open_page() as page:
        await page.goto(f"http://{address}/chart?symbol=BINANCE:BTC-USDT&resolution=1")
        report = json.loads(await browser.final_title(page), parse_float=Decimal)
        shot = await page.screenshot()
        (guide,) = re.findall("```js\n(.*?)```", GUIDE.replace("http://localhost:8000", ""), re.DOTALL)
        drawn = await page.evaluate(f"async () => {{ const series = candles; {guide}; return [rows, series.data()]; }}")
    await store.close()
    assert [row["timestamp"] for row in drawn[0]] == list(
        range(stored[0].bar.open_time, stored[-1].bar.open_time + MINUTE_MS, MINUTE_MS)
    )
    assert [row["time"] * 1000 for row in drawn[1] if "open" in row] == [each.bar.open_time for each in stored]
    assert {len(row) for row in drawn[1] if "open" not in row} <= {1}
    assert report["error"] == ""
    assert 429 not in chart.statuses, "the chart stays within the default limits"
    assert report["ended"]
    assert report["bars"] == len(stored)
    assert report["calls"] == len(stored) // 100 + 2, "the chart requested an empty page"
    assert report["precision"] == 3
    for end, candle in (("first", stored[0]), ("last", stored[-1])):
        assert report[end]["time"] == candle.bar.open_time // 1000
        assert Decimal(report[end]["close"]) == candle.bar.close
    assert report["painted"] > 2_000
    assert len(shot) > 5_000
