"""Pins processes to cores and reads their CPU time and memory from /proc."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

SERVER_CORE, CLIENT_CORE = 0, 1


class ProcessUsage(NamedTuple):
    """The CPU time of a process, and its resident memory."""

    cpu_seconds: float
    resident_bytes: int


def pin_command(core: int, *command: str) -> list[str]:
    """Return the command on one core, if the machine has several and can pin processes."""
    taskset = shutil.which("taskset")
    return [taskset, "--cpu-list", str(core), *command] if taskset and (os.cpu_count() or 1) > 1 else list(command)


def process_usage(pid: int) -> ProcessUsage:
    """Return the usage of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ProcessUsage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))
