"""Fixtures of private servers, which start at their first use and end with the tests, and the order of tests."""

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests import servers

T = TypeVar("T")
SHARED_SYSTEM = "tests/e2e/shared_system/"
# Long tests begin first, so that the workers end together.
FOLDERS = (SHARED_SYSTEM, "tests/unit/test_check.py", "tests/e2e/", "tests/contract/", "tests/service/", "tests/unit/")
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # the time of an example depends on the machine


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """`--dist loadfile`, but all files that use the shared system go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return SHARED_SYSTEM if nodeid.startswith(SHARED_SYSTEM) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Return the scheduler of `--dist loadfile`; any other is xdist's own."""
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # it would begin with the files of most tests, which are the fastest
    return FolderScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by `FOLDERS`."""
    items.sort(key=lambda item: [item.nodeid.startswith(folder) for folder in FOLDERS], reverse=True)


@pytest.fixture(scope="session")
def private() -> Iterator[servers.PrivateServers]:
    """The private servers of all tests."""
    with servers.private_servers() as private:
        yield private


@pytest.fixture(scope="session")
def postgres(private: servers.PrivateServers) -> servers.Postgres:
    return require_installed(lambda: private.postgres)


@pytest.fixture(scope="session")
def redis(private: servers.PrivateServers) -> servers.Server:
    return require_installed(lambda: private.redis)


@pytest.fixture(scope="session")
def rabbit(private: servers.PrivateServers) -> servers.Rabbit:
    return require_installed(lambda: private.rabbit)


def require_installed(start: Callable[[], T]) -> T:
    """Return the server. Without its program the test is skipped; with CI set it fails."""
    try:
        return start()
    except servers.NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
