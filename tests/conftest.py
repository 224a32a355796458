"""Servers for the tests that want them: started when first wanted, once for all, ended with the tests."""

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests import servers

T = TypeVar("T")
SHARED_SYSTEM = "tests/e2e/shared_system/"
# What takes longest begins first, so that the workers end together.
FOLDERS = (SHARED_SYSTEM, "tests/unit/test_check.py", "tests/e2e/", "tests/contract/", "tests/service/", "tests/unit/")
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says more of the machine than of Kurs


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """`--dist loadfile`, but all files that use the shared system go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return SHARED_SYSTEM if nodeid.startswith(SHARED_SYSTEM) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Return the scheduler of `--dist loadfile`; any other is xdist's own."""
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # it would begin with the files of most tests, which are the quickest
    return FolderScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by `FOLDERS`."""
    items.sort(key=lambda item: [item.nodeid.startswith(folder) for folder in FOLDERS], reverse=True)


@pytest.fixture(scope="session")
def private() -> Iterator[servers.PrivateServers]:
    """Where the private servers live."""
    with servers.private_servers() as here:
        yield here


@pytest.fixture(scope="session")
def postgres(private: servers.PrivateServers) -> servers.Postgres:
    """A PostgreSQL of our own."""
    return require_installed(lambda: private.postgres)


@pytest.fixture(scope="session")
def redis(private: servers.PrivateServers) -> servers.Server:
    """A Redis of our own."""
    return require_installed(lambda: private.redis)


@pytest.fixture(scope="session")
def rabbit(private: servers.PrivateServers) -> servers.Rabbit:
    """A RabbitMQ of our own."""
    return require_installed(lambda: private.rabbit)


def require_installed(start: Callable[[], T]) -> T:
    """The server; without its program the test is skipped, where all must be tested it fails."""
    try:
        return start()
    except servers.NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
