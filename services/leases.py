"""Leases of roles: a process that was stopped and continues must not act on a role that it may have lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from services.core.errors import Unavailable


class Lease:
    """A held role. It is valid for `seconds` after its last renewal, until `lost` is set."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self.lost = asyncio.Event()
        self._valid_seconds, self._renewed_at = seconds, time.monotonic()

    def renew(self, at: float) -> None:
        """Record that the role was held at that `time.monotonic()`."""
        self._renewed_at = at

    def is_valid(self) -> bool:
        """Return whether no other process can hold the role."""
        return not self.lost.is_set() and time.monotonic() - self._renewed_at < self._valid_seconds


class LeaseGuard:
    """A port of which `methods` raise Unavailable while a lease is not valid."""

    def __init__(self, port: Any, lease: Lease, *methods: Callable[..., Awaitable[Any]]) -> None:
        self._port, self._lease = port, lease
        for method in methods:
            setattr(self, method.__name__, self._guard(method))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def _guard(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(method)
        async def call(*args: Any) -> Any:
            if not self._lease.is_valid():
                raise Unavailable("this process cannot confirm that it still has its role")
            return await method(*args)

        return call
