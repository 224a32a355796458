"""What is made or fetched for a run, into `build/bench`: two small programs in C, and node's ws."""

import shutil
import subprocess
from pathlib import Path

from tests.servers import NotInstalled, find_program

FOLDER = Path(__file__).parents[2] / "build/bench"
WS = "ws@8"


def compile_program(name: str) -> Path:
    """A program of this folder. Raises Missing without a compiler, RuntimeError when it refuses: epoll is Linux'."""
    compiler = shutil.which("cc")
    if not compiler:
        raise NotInstalled("cc, a C compiler, is not installed: run tests/install-servers gcc")
    FOLDER.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name(f"{name}.c")
    _run(compiler, "-O2", "-Wall", "-Wextra", "-o", str(FOLDER / name), str(source))
    return FOLDER / name


def node() -> str:
    """Where node is, once `FOLDER` has ws for it. Raises Missing."""
    found, npm = find_program("node"), find_program("npm")
    if not (FOLDER / "node_modules/ws").is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        quiet = ("--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund")
        _run(npm, "install", *quiet, "--omit=optional", "--omit=peer", "--prefix", str(FOLDER), WS)
    return found


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}")
