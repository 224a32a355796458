"""The cache of one process."""

import time
from collections.abc import Callable, Mapping

from services.core.model import Choice, Rate, State, key
from services.core.sender_clocks import replaces

ANSWER_BYTES = 32_000_000
ANSWER_OVERHEAD = 250  # bytes, of an answer beside its key and body


def _wall() -> int:
    return time.time_ns() // 1_000_000


class MemoryCache:
    """What is current, for one process. `monotonic` tells seconds, `wall` ms; `most_bytes` of answers are kept."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        most_bytes: int = ANSWER_BYTES,
        wall: Callable[[], int] = _wall,
    ) -> None:
        self._answers: dict[str, tuple[float, bytes]] = {}
        self._most_bytes, self._bytes = most_bytes, 0
        self._newest: dict[object, Rate | State | Choice] = {}
        self._windows: dict[str, tuple[float, dict[str, int]]] = {}
        self._monotonic, self._wall = monotonic, wall

    async def put(self, *items: Rate | State | Choice) -> None:
        """Keep the newest of each."""
        for item in items:
            known = self._newest.get(name := (type(item), key(item)))
            if known is None or replaces(item.time, known.time, self._wall()):
                self._newest[name] = item

    async def rates(self) -> list[Rate]:
        """The last rate of each direction."""
        return [item for item in self._newest.values() if isinstance(item, Rate)]

    async def states(self) -> list[State]:
        """The last state of each exchange."""
        return [item for item in self._newest.values() if isinstance(item, State)]

    async def choice(self) -> Choice | None:
        """The exchange in use."""
        return next((item for item in self._newest.values() if isinstance(item, Choice)), None)

    async def count(self, window: str, seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Add `counts` to the counters of `window`, forgotten `seconds` after its first; answers the totals."""
        now = self._monotonic()
        self._windows = {name: kept for name, kept in self._windows.items() if kept[0] > now}
        _, totals = self._windows.setdefault(window, (now + seconds, {}))
        for name, number in counts.items():
            totals[name] = totals.get(name, 0) + number
        return {name: totals[name] for name in counts}

    async def get(self, *keys: str) -> list[bytes | None]:
        """Answers that were kept under these keys."""
        now, nothing = self._monotonic(), (0.0, b"")
        found = [self._answers.get(key, nothing) for key in keys]
        return [body if expires > now else None for expires, body in found]

    async def set(self, key: str, body: bytes, seconds: int) -> None:
        """Keep an answer for so long; when they are too much, those that were kept first go."""
        await self.drop(key)
        self._answers[key] = (self._monotonic() + seconds, body)
        self._bytes += _size(key, body)
        while self._bytes > self._most_bytes:
            await self.drop(next(iter(self._answers)))

    async def drop(self, *keys: str) -> None:
        """Keep what is under these keys no longer."""
        for name in keys:
            if kept := self._answers.pop(name, None):
                self._bytes -= _size(name, kept[1])

    async def ping(self) -> None:
        """Nothing lies in between."""

    async def close(self) -> None:
        """Nothing is open."""


def _size(key: str, body: bytes) -> int:
    return ANSWER_OVERHEAD + len(key) + len(body)
