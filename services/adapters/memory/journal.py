"""The journal of one process."""

from collections import deque

from services.core.journal import Entry, continued, kept


class MemoryJournal:
    """The newest entries of each log."""

    def __init__(self) -> None:
        self._logs: dict[str, deque[Entry]] = {}

    async def append(self, *entries: Entry) -> None:
        """Keep entries; what is not newer than the last of its log is passed over."""
        for entry in entries:
            log = self._logs.setdefault(entry.log, deque(maxlen=kept(entry.log)))
            if not log or entry.number > log[-1].number:
                log.append(entry)

    async def after(self, log: str, number: int, most: int) -> list[Entry] | None:
        """The first `most` entries after `number`; None: what came after it is not known any more."""
        known = self._logs.get(log, ())
        return continued([entry for entry in known if entry.number >= number][: most + bool(number)], number)

    async def newest(self, *logs: str) -> list[Entry | None]:
        """The last entry of each log."""
        return [self._logs[log][-1] if log in self._logs else None for log in logs]

    async def ping(self) -> None:
        """Nothing lies in between."""

    async def close(self) -> None:
        """Nothing is open."""
