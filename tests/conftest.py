"""Servers for the tests that want them: started when first wanted, once for all, ended with the tests."""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests import servers

T = TypeVar("T")
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says more of the machine than of Kurs


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
