"""What tests share that run Kurs from end to end."""

from collections.abc import Iterator

import pytest

from tests import servers
from tests.system import QUICK, System, split


@pytest.fixture(scope="package")
def shared(private: servers.Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Kurs split into its processes, for all who leave it at work: it takes long to start. It loads no history."""
    env = {**QUICK, "KURS_HISTORY_BARS": "0"}
    with split(tmp_path_factory.mktemp("shared"), private, env) as running:
        yield running
