"""Clients and generators of other projects, unchanged, with a fresh Kurs and its simulator: `make strangers`.

Exits with 1 when a client does not work. The table names the reason for each client that could not be run here.
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
from tests.strangers.client_report import ClientResult, render_report, row
from tests.strangers.client_runner import run_client
from tests.strangers.clients import CLIENTS, StrangerClient
from tests.strangers.deployment import Deployment
from tests.system import FAST_SETTINGS, System, single_process

READY_SECONDS = 300  # until the history that the clients request is loaded
WARM_UP_PATHS = (
    "/api/chart-data?symbol=BTCUSDT&timeframe=1m&limit=1000",
    "/api/chart-data?symbol=BTCUSDT&timeframe=1h&limit=1000",
)
NO_UDF = "it comes with TradingView's library and is in no registry; UDF=…/datafeeds/udf names its folder"


def main() -> int:
    """Run the selected clients, and write the table."""
    parser = argparse.ArgumentParser(prog="make strangers", description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("build/clients.md"), help="where the table is written")
    parser.add_argument("--only", default="", help="a part of the names of the programs to run")
    parser.add_argument("--udf", type=Path, help="the folder datafeeds/udf of TradingView's library")
    arguments = parser.parse_args()
    chosen = [client for client in CLIENTS if arguments.only in client.program]
    with tempfile.TemporaryDirectory(prefix="kurs-") as folder, servers.sigterm_as_interrupt():
        results = asyncio.run(run(chosen, Path(folder), arguments.udf.resolve() if arguments.udf else None))
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text(render_report(results))
    return int(any(result.passed is False for result in results))


async def run(clients: list[StrangerClient], folder: Path, udf: Path | None) -> list[ClientResult]:
    """Run the clients one after the other, and return their results."""
    results = []
    with single_process(
        folder, {**FAST_SETTINGS, "KURS_SIMULATOR_TLS_PORT": str(tls := servers.free_port())}
    ) as system:
        deployment = Deployment(
            system.url,
            system.simulator,
            f"wss://127.0.0.1:{tls}{urlsplit(system.simulator).path}",
            folder / "data/simulator-cert.pem",
        )
        await load_history(system)
        for client in clients:
            results.append(await try_client(client, deployment, udf))
            print(row(results[-1]), flush=True)
    return results


async def load_history(system: System) -> None:
    """Wait until the history that the clients request is loaded. Raises TimeoutError."""
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(base_url=system.url, timeout=30) as http:
        for path in WARM_UP_PATHS:
            while not _is_complete(await http.get(path)):
                await asyncio.sleep(0.5)


def _is_complete(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.OK and "loading" not in answer.json()


async def try_client(client: StrangerClient, deployment: Deployment, udf: Path | None) -> ClientResult:
    """Run a client and return its result."""
    if client.program == "udf.mjs" and not udf:
        return ClientResult(client, None, NO_UDF)
    try:
        folder = await packages.install_packages(client)
    except (packages.ProgramFailed, servers.NotInstalled) as error:
        return ClientResult(client, None, _error_line(error))
    try:
        text = await client.check_output(deployment, await run_client(client, folder, deployment, udf))
        return ClientResult(
            client, True, f"{text}; {_udf_version(udf)}" if udf and client.program == "udf.mjs" else text
        )
    except servers.NotInstalled as error:
        return ClientResult(client, None, _error_line(error))
    except Exception as error:  # noqa: BLE001  every error is a result
        print(error, file=sys.stderr)
        return ClientResult(client, False, f"{type(error).__name__}: {_error_line(error)}")


def _udf_version(udf: Path) -> str:
    """Return the hash of the adapter, because it has no version."""
    return f"`bundle.js` with SHA-256 {hashlib.sha256((udf / 'dist/bundle.js').read_bytes()).hexdigest()[:12]}…"


def _error_line(error: Exception) -> str:
    """Return the last line that names an error, otherwise the last line."""
    lines = str(error).strip().splitlines() or [""]
    return next((line for line in reversed(lines) if re.match(r"\S*(Error|Exception)\b|\S*: error", line)), lines[-1])[
        :300
    ]


if __name__ == "__main__":
    sys.exit(main())
