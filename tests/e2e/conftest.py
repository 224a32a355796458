"""What tests share that run Kurs from end to end."""

from collections.abc import Iterator

import pytest

from tests import servers
from tests.system import FAST_SETTINGS, System, distributed


@pytest.fixture(scope="package")
def shared(private: servers.PrivateServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Kurs split into its processes, for all who leave it at work: it takes long to start. It loads no history."""
    env = {**FAST_SETTINGS, "KURS_HISTORY_BARS": "0"}
    with distributed(tmp_path_factory.mktemp("shared"), private, env) as running:
        yield running
