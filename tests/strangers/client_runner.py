"""Runs a client's program against a place."""

import mimetypes
import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from tests import browser
from tests.servers import program
from tests.simulator import served
from tests.strangers.breaking_proxy import breaking
from tests.strangers.checks import EVENTS
from tests.strangers.clients import Client
from tests.strangers.deployment import Place
from tests.strangers.packages import Failed, run

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE_SECONDS = 120  # with a program, on a busy machine
BREAKS = 2  # of the line of each client that follows something
ORIGIN = "localhost:5173"  # a page of another origin, let in unless it is set otherwise


async def printed(client: Client, folder: Path, place: Place, udf: Path | None = None, breaks: int = BREAKS) -> str:
    """What a client's program prints, or its page says in the end. Raises Failed."""
    if not client.streams:
        return await _printed(client, folder, place, place.kurs, udf)
    async with breaking(place.port, breaks) as line:
        text = await _printed(client, folder, place, line.address, udf)
    if line.left:
        raise Failed(f"{line.left} breaks of the line were still to come")
    return text


async def _printed(client: Client, folder: Path, place: Place, kurs: str, udf: Path | None) -> str:
    env = {
        "KURS": kurs,
        "SIMULATOR": place.simulator,
        "SECURE": place.secure,
        "CERTIFICATE": str(place.certificate),
        "EVENTS": str(EVENTS),
        **({"UDF": str(udf)} if udf else {}),
    }
    if client.language == "page":
        return await _shown(client, folder, env)
    command = [program("node")]
    if client.language == "python":
        env["PYTHONPATH"], command = str(folder), [sys.executable, "-P"]
    env["PATH"] = os.pathsep.join([str(folder / "bin"), str(folder / "node_modules/.bin"), os.environ["PATH"]])
    known = {name: value for name, value in os.environ.items() if not name.startswith("KURS_")}
    with tempfile.TemporaryDirectory(dir=folder) as room:  # Node looks for packages above its program
        # under a name that hides no package from what the program starts
        copied = shutil.copy(PROGRAMS / client.program, Path(room, "program").with_suffix(Path(client.program).suffix))
        return await run(Path(room), PATIENCE_SECONDS, *command, str(copied), env={**known, **env})


async def _shown(client: Client, folder: Path, env: dict[str, str]) -> str:
    query = urlencode({name: env[name] for name in ("KURS", "EVENTS")})
    async with (
        served(Pages(PROGRAMS / client.program, folder)) as address,
        browser.page(f"--host-resolver-rules=MAP {ORIGIN} {address}") as page,
    ):
        await page.goto(f"http://{ORIGIN}/?{query}")
        return await browser.said(page)


class Pages:
    """A page and the packages that it loads."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._page, self._folder = page, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._answer(Request(scope).url.path)(scope, receive, send)

    def _answer(self, path: str) -> Response:
        if path == "/":
            return FileResponse(self._page)
        file = self._folder / path.removeprefix("/")
        if not file.suffix:  # as a bundler would find it
            file = file.with_name(f"{file.name}.js")
        if not file.is_file():
            return Response(status_code=404)
        return FileResponse(file, media_type=mimetypes.guess_type(file.name)[0])
