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
def private() -> Iterator[servers.Private]:
    """Where the private servers live."""
    with servers.private() as here:
        yield here


@pytest.fixture(scope="session")
def postgres(private: servers.Private) -> servers.Postgres:
    """A PostgreSQL of our own."""
    return installed(lambda: private.postgres)


@pytest.fixture(scope="session")
def redis(private: servers.Private) -> servers.Server:
    """A Redis of our own."""
    return installed(lambda: private.redis)


@pytest.fixture(scope="session")
def rabbit(private: servers.Private) -> servers.Rabbit:
    """A RabbitMQ of our own."""
    return installed(lambda: private.rabbit)


def installed(start: Callable[[], T]) -> T:
    """The server; without its program the test is skipped, where all must be tested it fails."""
    try:
        return start()
    except servers.Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
