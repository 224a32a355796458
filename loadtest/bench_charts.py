"""Candles that are kept ready, through nginx, beside files of their size that the same nginx sends.

`make bench ONLY=charts`. A thousand candles, plain and packed; the rows that go past nginx say what it adds.
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
from loadtest.peers import Peer
from loadtest.results import Bench, Row, Target
from loadtest.rounds import check, measured, ratio, table
from services.adapters import sql
from services.core.model import Bar, Candle, Instrument, Origin, Series
from services.core.timeframes import MINUTE
from tests import servers
from tests.nginx import configuration, replaced
from tests.system import kurs

ROUNDS, CONNECTIONS, CANDLES = 9, 64, 1_000
START = 1_767_225_600_000  # 2026-01-01
PATH = f"/api/chart-data?symbol=BTCUSDT&timeframe=1m&from={START}&to={START + (CANDLES - 1) * MINUTE}"
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
    """Run it all; 1 when a target is missed."""
    try:
        with servers.private() as here, peers(here) as everyone:
            for peer in everyone:
                check(peer)
            rows = measured(everyone, CONNECTIONS, ROUNDS)
    except servers.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    found = Bench(results.machine(), rows, judged(rows))
    print(table(found))
    return results.told("charts", found)


def judged(rows: Sequence[Row]) -> list[Target]:
    """What Kurs promises."""
    failed = sum(row.failed for row in rows)
    ratios = [
        Target(f"{THROUGH}{form} of {STATIC}{form}", ratio(rows, THROUGH + form, STATIC + form), least=0.9)
        for form in FILES.values()
    ]
    return [*ratios, Target("failures", failed, most=0)]


@contextmanager
def peers(here: servers.Private) -> Iterator[list[Peer]]:
    """A replica with candles, the project's nginx before it, and the same candles as files."""
    folder = here.folder / "charts"
    folder.mkdir()
    asyncio.run(stored(f"sqlite+aiosqlite:///{folder}/kurs.db"))
    api = kurs(folder, "api", KURS_DATA_DIR=str(folder))
    api.start()
    try:
        body = httpx.get(api.url + PATH).raise_for_status().content
        (folder / "chart.json").write_bytes(body)
        (folder / "chart.json.gz").write_bytes(gzip.compress(body, mtime=0))
        front = _nginx(here, folder, int(api.url.rpartition(":")[2]))
        yield [
            peer
            for name, form in FILES.items()
            for peer in (
                Peer(STATIC + form, f"{front}/{name}"),
                Peer(THROUGH + form, front + PATH, packed=bool(form)),
                Peer(DIRECT + form, api.url + PATH, packed=bool(form)),
            )
        ]
    finally:
        api.stop()


def _nginx(here: servers.Private, folder: Path, replica: int) -> str:
    port = servers.free_port()
    files = "\n".join(LOCATION.format(name=name, folder=folder) for name in FILES)
    config = configuration(here.folder / f"nginx{port}", port, [replica])
    return here.nginx(replaced(config, {"location / {": f"{files}\n\n    location / {{"}), port).url


async def stored(url: str) -> None:
    """A thousand closed minutes, with digits as Bitcoin has them."""
    await sql.migrate(url)
    store = await sql.connect(url)
    series = Series("binance", Instrument("BTC", "USDT"), "1m")
    await store.save(*(Candle(series, _bar(number), True, Origin.EXCHANGE) for number in range(CANDLES)))
    await store.close()


def _bar(number: int) -> Bar:
    price, amount = Decimal(97_000) + Decimal(number * 7919 % 99_991) / 100, Decimal(number * 104_729 % 10**6) / 10**5
    return Bar(START + number * MINUTE, price, price + 30, price - 30, price + 1, amount, amount * price, number)


if __name__ == "__main__":
    sys.exit(main())
