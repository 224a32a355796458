"""Small file systems that a fault can fill without filling the machine's disk."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.servers import find_program


@contextmanager
def small_disks(sizes: Mapping[str, int]) -> Iterator[Mapping[str, Path]]:
    """Mount a file system in memory for each name, of so many megabytes; none where mounting is not allowed."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kurs-disks-")))
        root.chmod(0o755)  # PostgreSQL may run as another user
        mounted = dict[str, Path]()
        for name, size in sizes.items():
            (folder := root / name).mkdir()
            command = [find_program("mount"), "-t", "tmpfs", "-o", f"size={size}m", "none", str(folder)]
            if subprocess.run(command, check=False, capture_output=True).returncode:  # noqa: S603
                print("faults: this user may not mount a file system, so that no disk gets full", file=sys.stderr)
                break
            stack.callback(partial(subprocess.run, [find_program("umount"), "-l", str(folder)], check=False))
            mounted[name] = folder
        yield mounted
