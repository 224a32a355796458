"""Clients and generators of other people, unchanged, against a fresh Kurs and its simulator: `make strangers`.

Exits with 1 when a client does not work, and says of each that could not be run here why.
"""

import argparse
import asyncio
import hashlib
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests import servers
from tests.strangers import packages
from tests.strangers.client_report import Outcome, page, row
from tests.strangers.client_runner import printed
from tests.strangers.clients import CLIENTS, Client
from tests.strangers.deployment import Place
from tests.system import QUICK, System, whole

READY_SECONDS = 300  # until all history that the clients ask for is there
WANTED = (
    "/api/chart-data?symbol=BTCUSDT&timeframe=1m&limit=1000",
    "/api/chart-data?symbol=BTCUSDT&timeframe=1h&limit=1000",
)
NO_UDF = "it comes with TradingView's library and is in no registry; UDF=…/datafeeds/udf names its folder"


def main() -> int:
    """Run them all."""
    parser = argparse.ArgumentParser(prog="make strangers", description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("build/clients.md"), help="where the table is written")
    parser.add_argument("--only", default="", help="a part of the names of the programs to run")
    parser.add_argument("--udf", type=Path, help="the folder datafeeds/udf of TradingView's library")
    asked = parser.parse_args()
    chosen = [client for client in CLIENTS if asked.only in client.program]
    with tempfile.TemporaryDirectory(prefix="kurs-") as folder, servers.terminated_as_interrupted():
        outcomes = asyncio.run(run(chosen, Path(folder), asked.udf.resolve() if asked.udf else None))
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(page(outcomes))
    return int(any(outcome.passed is False for outcome in outcomes))


async def run(clients: list[Client], folder: Path, udf: Path | None) -> list[Outcome]:
    """How each of them does, one after the other."""
    outcomes = []
    with whole(folder, {**QUICK, "KURS_SIMULATOR_TLS_PORT": str(tls := servers.free_port())}) as system:
        place = Place(
            system.url,
            system.simulator,
            f"wss://127.0.0.1:{tls}{urlsplit(system.simulator).path}",
            folder / "data/simulator-cert.pem",
        )
        await history(system)
        for client in clients:
            outcomes.append(await tried(client, place, udf))
            print(row(outcomes[-1]), flush=True)
    return outcomes


async def history(system: System) -> None:
    """Wait for all that the clients ask for. Raises TimeoutError."""
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(base_url=system.url, timeout=30) as http:
        for path in WANTED:
            while not _whole(await http.get(path)):
                await asyncio.sleep(0.5)


def _whole(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.OK and "loading" not in answer.json()


async def tried(client: Client, place: Place, udf: Path | None) -> Outcome:
    """How it went with one."""
    if client.program == "udf.mjs" and not udf:
        return Outcome(client, None, NO_UDF)
    try:
        folder = await packages.installed(client)
    except (packages.Failed, servers.Missing) as error:
        return Outcome(client, None, _last(error))
    try:
        words = await client.judge(place, await printed(client, folder, place, udf))
        return Outcome(client, True, f"{words}; {_bundle(udf)}" if udf and client.program == "udf.mjs" else words)
    except servers.Missing as error:
        return Outcome(client, None, _last(error))
    except Exception as error:  # noqa: BLE001  whatever a stranger does is an outcome
        print(error, file=sys.stderr)
        return Outcome(client, False, f"{type(error).__name__}: {_last(error)}")


def _bundle(udf: Path) -> str:
    """Which adapter it was: it names no version."""
    return f"`bundle.js` with SHA-256 {hashlib.sha256((udf / 'dist/bundle.js').read_bytes()).hexdigest()[:12]}…"


def _last(error: Exception) -> str:
    """The line that says most: the last one that names an error."""
    lines = str(error).strip().splitlines() or [""]
    return next((line for line in reversed(lines) if re.match(r"\S*(Error|Exception)\b|\S*: error", line)), lines[-1])[
        :300
    ]


if __name__ == "__main__":
    sys.exit(main())
