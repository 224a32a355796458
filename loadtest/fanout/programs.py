"""Compiles the C programs and installs node's ws for a run, into `build/bench`."""

import shutil
import subprocess
from pathlib import Path

from tests.servers import NotInstalled, find_program

FOLDER = Path(__file__).parents[2] / "build/bench"
WS = "ws@8"


def compile_program(name: str) -> Path:
    """Compile a program of this folder. Raises NotInstalled without a compiler, RuntimeError when compiling fails.

    The programs use epoll, which only Linux has.
    """
    compiler = shutil.which("cc")
    if not compiler:
        raise NotInstalled("cc, a C compiler, is not installed: run tests/install-servers gcc")
    FOLDER.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name(f"{name}.c")
    _run(compiler, "-O2", "-Wall", "-Wextra", "-o", str(FOLDER / name), str(source))
    return FOLDER / name


def node() -> str:
    """Install ws into `FOLDER` and return the path of node. Raises NotInstalled."""
    path, npm = find_program("node"), find_program("npm")
    if not (FOLDER / "node_modules/ws").is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        quiet = ("--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund")
        _run(npm, "install", *quiet, "--omit=optional", "--omit=peer", "--prefix", str(FOLDER), WS)
    return path


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}")
