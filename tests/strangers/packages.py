"""The clients' packages, in a folder for each client, because their dependencies conflict."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.servers import find_program
from tests.strangers.clients import Language, StrangerClient

FOLDER = Path(__file__).parents[2] / "build/strangers"
INSTALL_TIMEOUT_SECONDS = 300  # from a registry


class ProgramFailed(Exception):
    """A program ended with an error, or not in time. The message ends with the last line that it wrote."""


async def install_packages(client: StrangerClient) -> Path:
    """Return the folder with a client's packages, which the next run reuses. Raises ProgramFailed, NotInstalled."""
    folder, packages = FOLDER / client.folder, client.packages
    wanted, done = "\n".join(packages), folder / "packages.txt"
    if done.exists() and done.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if packages:
        await run_program(folder, INSTALL_TIMEOUT_SECONDS, *_install_command(client.language, folder), *packages)
    done.write_text(wanted)
    return folder


def _install_command(language: Language, folder: Path) -> list[str]:
    if language == "python":
        if shutil.which("uv"):
            return ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        return [*pip, "install", "--quiet", "--no-compile", "--target", str(folder)]
    quiet = ["--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    return [find_program("npm"), "install", *quiet, "--prefix", str(folder)]


async def run_program(folder: Path, seconds: float, *command: str, env: dict[str, str] | None = None) -> str:
    """Run a program and return its output. Raises ProgramFailed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        raise ProgramFailed(f"not finished within {seconds:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also the processes that it has started
        await process.wait()
    if process.returncode:
        written = (errors or output).decode(errors="replace").strip()
        raise ProgramFailed(written)
    return output.decode()
