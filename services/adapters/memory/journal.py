"""The journal of one process."""

from collections import deque
from collections.abc import Callable, Iterable
from struct import Struct
from time import monotonic_ns

from services.core.journal import JOURNAL_BYTES, Entry, continued
from services.core.journal_retention import FEW, Costs, Retention

RESUMED = 600_000  # ms in which who was away comes back: quiet logs need not fill up for hours
COSTS = Costs(log=1_500, entry=96)
_head = Struct(">QQQQH")  # number, previous, time, when it was kept (ms, monotonic), length of the key


def _monotonic() -> int:
    return monotonic_ns() // 1_000_000


class MemoryJournal:
    """The newest entries of each log, in `most_bytes` together."""

    def __init__(self, most_bytes: int = JOURNAL_BYTES, monotonic: Callable[[], int] = _monotonic) -> None:
        self._logs: dict[str, deque[bytes]] = {}
        self._monotonic = monotonic
        self._retention = Retention(most_bytes, COSTS)

    async def append(self, *entries: Entry) -> None:
        """Keep entries; what is not newer than the last of its log is passed over."""
        now = self._monotonic()
        for entry in entries:
            log = self._logs.setdefault(entry.log, deque())
            if not log or entry.number > _number(log[-1]):
                log.append(_packed(entry, now))
                _cut(log, self._retention.admit(entry, now))
                while len(log) > FEW and now - _kept(log[0]) > RESUMED:
                    log.popleft()
        for name, count in self._retention.trims().items():
            _cut(self._logs.get(name, deque()), count)
            if not count:
                self._logs.pop(name, None)

    def follow(self, log: str) -> None:
        """Somebody follows this log."""
        self._retention.follow(log, self._monotonic())

    async def after(self, log: str, number: int, most: int) -> list[Entry] | None:
        """The first `most` entries after `number`; None: what came after it is not known any more."""
        known: Iterable[bytes] = self._logs.get(log, ())
        wanted = [packed for packed in known if _number(packed) >= number][: most + bool(number)]
        return continued([_unpacked(log, packed) for packed in wanted], number)

    async def newest(self, *logs: str) -> list[Entry | None]:
        """The last entry of each log."""
        return [_unpacked(log, self._logs[log][-1]) if log in self._logs else None for log in logs]

    async def ping(self) -> None:
        """Nothing lies in between."""

    async def close(self) -> None:
        """Nothing is open."""


def _cut(log: deque[bytes], count: int) -> None:
    while len(log) > count:
        log.popleft()


def _number(packed: bytes) -> int:
    return int.from_bytes(packed[:8])


def _kept(packed: bytes) -> int:
    return int.from_bytes(packed[24:32])


def _packed(entry: Entry, now: int) -> bytes:
    key = entry.key.encode()
    return _head.pack(entry.number, entry.previous, entry.time, now, len(key)) + key + entry.data.encode()


def _unpacked(log: str, packed: bytes) -> Entry:
    number, previous, time, _, length = _head.unpack_from(packed)
    end = _head.size + length
    return Entry(log, number, previous, packed[_head.size : end].decode(), packed[end:].decode(), time)
