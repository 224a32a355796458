"""How long a process may be sure of a role: who was stopped and goes on must not act on what it knew before."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from services.core.errors import Unavailable


class Lease:
    """A role that is held. `lost` is set when it is; `proved` for the last time, it is sure for `seconds` more."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self.lost = asyncio.Event()
        self._valid_seconds, self._renewed_at = seconds, time.monotonic()

    def renew(self, at: float) -> None:
        """The role was still held at that time.monotonic()."""
        self._renewed_at = at

    def is_valid(self) -> bool:
        """Whether nobody else can have it by now."""
        return not self.lost.is_set() and time.monotonic() - self._renewed_at < self._valid_seconds


class LeaseGuard:
    """A port of which these methods are called only while a lease is sure. They raise Unavailable else."""

    def __init__(self, port: Any, lease: Lease, *names: str) -> None:
        self._port, self._lease = port, lease
        for name in names:
            setattr(self, name, self._guard(getattr(port, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def _guard(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            if not self._lease.is_valid():
                raise Unavailable("this process does not know whether it still has its role")
            return await method(*args)

        return call
