"""The one distributed Kurs of the tests in this folder, which a single pytest worker runs."""

from collections.abc import Iterator

import pytest

from tests import servers
from tests.system import FAST_SETTINGS, System, distributed


@pytest.fixture(scope="package")
def shared(private: servers.PrivateServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A distributed Kurs that loads no history. A test that uses it leaves it working.

    It takes half a minute to start and half a core to run, so the tests must not start several.
    """
    env = {**FAST_SETTINGS, "KURS_HISTORY_BARS": "0"}
    with distributed(tmp_path_factory.mktemp("shared"), private, env) as system:
        yield system
