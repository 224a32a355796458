"""Cached candles through nginx, compared with files of the same bytes that the same nginx sends.

`make bench ONLY=charts`. A thousand candles, plain and by gzip. The rows without nginx show what nginx adds.
"""

import asyncio
import gzip
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx

from loadtest import results
from loadtest.peers import HttpPeer
from loadtest.results import PeerBench, PeerResult, Target
from loadtest.rounds import check, measure_rounds, ratio, table
from services.adapters import sql
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import MINUTE_MS
from tests import servers
from tests.nginx import configuration, replace_once
from tests.system import kurs_process

ROUNDS, CONNECTIONS, CANDLES = 9, 64, 1_000
START_MS = 1_767_225_600_000  # 2026-01-01
PATH = f"/api/chart-data?symbol=BTCUSDT&timeframe=1m&from={START_MS}&to={START_MS + (CANDLES - 1) * MINUTE_MS}"
STATIC, THROUGH, DIRECT = "nginx, static file", "candles through nginx", "candles"
FILES = {"chart.json": "", "chart.json.gz": ", packed"}
LOCATION = """location = /{name} {{
    root {folder};
    default_type application/json;
    gzip off;
    sendfile on;
    open_file_cache max=10;
}}"""


def main() -> int:
    """Run the benchmark. Return 1 when a target is missed."""
    try:
        with servers.private_servers() as private, peers(private) as all_peers:
            for peer in all_peers:
                check(peer)
            rows = measure_rounds(all_peers, CONNECTIONS, ROUNDS)
    except servers.NotInstalled as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    found = PeerBench(results.machine_info(), rows, make_targets(rows))
    print(table(found))
    return results.save_and_exit_code("charts", found)


def make_targets(rows: Sequence[PeerResult]) -> list[Target]:
    """Return the targets of these rows."""
    failed = sum(row.failed for row in rows)
    ratios = [
        Target(f"{THROUGH}{form} of {STATIC}{form}", ratio(rows, THROUGH + form, STATIC + form), at_least=0.9)
        for form in FILES.values()
    ]
    return [*ratios, Target("failures", failed, at_most=0)]


@contextmanager
def peers(private: servers.PrivateServers) -> Iterator[list[HttpPeer]]:
    """Run a replica with candles behind the project's nginx, which serves the same candles as files too."""
    folder = private.folder / "charts"
    folder.mkdir()
    asyncio.run(store_candles(f"sqlite+aiosqlite:///{folder}/kurs.db"))
    api = kurs_process(folder, "api", KURS_DATA_DIR=str(folder), API_RATE_LIMIT="0")
    api.start()
    try:
        body = httpx.get(api.url + PATH).raise_for_status().content
        (folder / "chart.json").write_bytes(body)
        (folder / "chart.json.gz").write_bytes(gzip.compress(body, mtime=0))
        nginx_url = _nginx(private, folder, int(api.url.rpartition(":")[2]))
        yield [
            peer
            for name, form in FILES.items()
            for peer in (
                HttpPeer(STATIC + form, f"{nginx_url}/{name}"),
                HttpPeer(THROUGH + form, nginx_url + PATH, packed=bool(form)),
                HttpPeer(DIRECT + form, api.url + PATH, packed=bool(form)),
            )
        ]
    finally:
        api.stop()


def _nginx(private: servers.PrivateServers, folder: Path, replica: int) -> str:
    port = servers.free_port()
    files = "\n".join(LOCATION.format(name=name, folder=folder) for name in FILES)
    config = configuration(private.folder / f"nginx{port}", port, [replica])
    return private.nginx(replace_once(config, {"location / {": f"{files}\n\n    location / {{"}), port).url


async def store_candles(url: str) -> None:
    """Save a thousand closed minutes, with as many digits as Bitcoin's."""
    await sql.migrate(url)
    store = await sql.connect(url)
    series = Series("binance", Instrument("BTC", "USDT"), "1m")
    await store.save(*(Candle(series, _bar(number), True, CandleSource.EXCHANGE) for number in range(CANDLES)))
    await store.close()


def _bar(number: int) -> Bar:
    price, amount = Decimal(97_000) + Decimal(number * 7919 % 99_991) / 100, Decimal(number * 104_729 % 10**6) / 10**5
    return Bar(START_MS + number * MINUTE_MS, price, price + 30, price - 30, price + 1, amount, amount * price, number)


if __name__ == "__main__":
    sys.exit(main())
