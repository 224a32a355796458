"""Stub replicas of the API as processes, for nginx to balance."""

import sys
from pathlib import Path

from tests import servers


def stub_replica(folder: Path) -> servers.Server:
    """Return a stub replica that is not started yet."""
    folder.mkdir()
    port = servers.free_port()
    return servers.Server(
        "replica",
        f"http://127.0.0.1:{port}",
        folder,
        [sys.executable, "-m", "tests.e2e.stub_replica", str(port)],
        ready=lambda: servers.is_listening(port),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
