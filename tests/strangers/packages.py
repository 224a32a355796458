"""The clients' packages, each client's in a folder of its own: what one wants of a dependency, another does not."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.servers import program
from tests.strangers.clients import Client, Language

FOLDER = Path(__file__).parents[2] / "build/strangers"
PATIENCE_SECONDS = 300  # with a registry


class Failed(Exception):
    """A program ended with an error, or not in time. The message ends with the last line that it wrote."""


async def installed(client: Client) -> Path:
    """The folder with a client's packages, which stays for the next run. Raises Failed, Missing."""
    folder, packages = FOLDER / client.folder, client.packages
    wanted, done = "\n".join(packages), folder / "packages.txt"
    if done.exists() and done.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if packages:
        await run(folder, PATIENCE_SECONDS, *_command(client.language, folder), *packages)
    done.write_text(wanted)
    return folder


def _command(language: Language, folder: Path) -> list[str]:
    if language == "python":
        if shutil.which("uv"):
            return ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        return [*pip, "install", "--quiet", "--no-compile", "--target", str(folder)]
    quiet = ["--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    return [program("npm"), "install", *quiet, "--prefix", str(folder)]


async def run(folder: Path, seconds: float, *command: str, env: dict[str, str] | None = None) -> str:
    """What a program prints. Raises Failed."""
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
            output, complaint = await process.communicate()
    except TimeoutError:
        raise Failed(f"not done within {seconds:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        await process.wait()
    if process.returncode:
        written = (complaint or output).decode(errors="replace").strip()
        raise Failed(written)
    return output.decode()
