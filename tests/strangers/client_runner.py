"""Running a client's program with a deployment."""

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
from tests.servers import find_program
from tests.simulator import serve_app
from tests.strangers.breaking_proxy import run_breaking_proxy
from tests.strangers.checks import MIN_EVENTS
from tests.strangers.clients import StrangerClient
from tests.strangers.deployment import Deployment
from tests.strangers.packages import ProgramFailed, run_program

PROGRAMS_FOLDER = Path(__file__).parent / "programs"
PROGRAM_TIMEOUT_SECONDS = 120  # on a busy machine
CONNECTION_BREAKS = 2  # of each client of a stream
ORIGIN = "localhost:5173"  # of a page, allowed by default


async def run_client(
    client: StrangerClient,
    folder: Path,
    deployment: Deployment,
    udf: Path | None = None,
    breaks: int = CONNECTION_BREAKS,
) -> str:
    """Run a client, and return its output or its page's final title. Raises ProgramFailed."""
    if not client.follows_stream:
        return await _run_program(client, folder, deployment, deployment.kurs, udf)
    async with run_breaking_proxy(deployment.port, breaks) as proxy:
        text = await _run_program(client, folder, deployment, proxy.address, udf)
    if proxy.breaks_left:
        raise ProgramFailed(f"the client ended before {proxy.breaks_left} breaks of its connection")
    return text


async def _run_program(
    client: StrangerClient, folder: Path, deployment: Deployment, kurs: str, udf: Path | None
) -> str:
    env = {
        "KURS": kurs,
        "SIMULATOR": deployment.simulator,
        "SECURE": deployment.secure_simulator,
        "CERTIFICATE": str(deployment.certificate),
        "EVENTS": str(MIN_EVENTS),
        **({"UDF": str(udf)} if udf else {}),
    }
    if client.language == "page":
        return await _run_page(client, folder, env)
    command = [find_program("node")]
    if client.language == "python":
        env["PYTHONPATH"], command = str(folder), [sys.executable, "-P"]
    env["PATH"] = os.pathsep.join([str(folder / "bin"), str(folder / "node_modules/.bin"), os.environ["PATH"]])
    known = {name: value for name, value in os.environ.items() if not name.startswith("KURS_")}
    with tempfile.TemporaryDirectory(dir=folder) as room:  # Node looks for packages above its program
        # under a name that shadows no package
        copied = shutil.copy(
            PROGRAMS_FOLDER / client.program, Path(room, "program").with_suffix(Path(client.program).suffix)
        )
        return await run_program(Path(room), PROGRAM_TIMEOUT_SECONDS, *command, str(copied), env={**known, **env})


async def _run_page(client: StrangerClient, folder: Path, env: dict[str, str]) -> str:
    query = urlencode({name: env[name] for name in ("KURS", "EVENTS")})
    async with (
        serve_app(PageApp(PROGRAMS_FOLDER / client.program, folder)) as address,
        browser.open_page(f"--host-resolver-rules=MAP {ORIGIN} {address}") as page,
    ):
        await page.goto(f"http://{ORIGIN}/?{query}")
        return await browser.final_title(page)


class PageApp:
    """A page and the packages that it loads."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._page, self._folder = page, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
