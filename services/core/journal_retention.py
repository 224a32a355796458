"""How many entries of each log the journal keeps, so that all logs together stay below a number of bytes.

A kind of log (the first word of its name) has one writer, and a fixed share of the whole: so each process bounds what
it writes without asking another. Within a kind each log has the same room, less with each time that they have doubled
in number.
"""

from typing import NamedTuple

from services.core.journal import Entry, kept

SHARES = {"rates": 1 / 8, "candle": 3 / 8, "reading": 3 / 8}  # of the whole, by kind
OTHERS = 1 / 8  # all other kinds together
NAMED = "reading"  # of this kind a log is followed only if `follow` says so: thousands are written that nobody follows
FEW = 2  # newest entries of a log that nobody follows
FEWEST = 16  # logs of a kind that its room is divided by at least
CROWDED = 3 / 4  # of a share, that empty logs may take: beyond that those go that were written to the longest ago
FORGOTTEN = 60 * 60  # seconds after its last entry in which a log is kept
FOLLOWED = 10 * 60  # seconds after its last follower in which a log is one that is followed


class Costs(NamedTuple):
    """What a log and an entry cost in bytes beside the entry's text."""

    log: int
    entry: int


class _Log:
    """One log: when its newest entry came (ms, monotonic), about the size of its largest, how many entries it keeps."""

    __slots__ = ("keep", "largest", "time")

    def __init__(self) -> None:
        self.time, self.largest, self.keep = 0, 1.0, FEW


class _Kind:
    """The logs of one kind, in the order in which they were last written to."""

    def __init__(self, share: float, costs: Costs, named: bool) -> None:
        self.share, self.named, self._costs = int(share), named, costs
        self.logs: dict[str, _Log] = {}
        self.followed: dict[str, int] = {}  # until when, in ms
        self.room = self.share

    def resized(self) -> bool:
        """Divide the room anew; answers whether each log has less than before."""
        free = max(self.share - _doubled(len(self.logs)) * self._costs.log, self.share // 8)
        before, count = self.room, len(self.followed if self.named else self.logs)
        self.room = free // _doubled(max(count, FEWEST))
        return self.room < before

    def keep(self, name: str) -> int:
        """How many entries of a log are kept."""
        if self.named and name not in self.followed:
            return FEW
        return max(FEW, min(kept(name), int(self.room / self.logs[name].largest)))

    def unfollowed(self, now: int) -> list[str]:
        """Take out of the followed ones those that nobody has followed for long."""
        ended = list[str]()
        for name, until in self.followed.items():
            if until >= now:
                break
            ended.append(name)
        for name in ended:
            del self.followed[name]
        return ended

    def left(self, name: str, now: int) -> int:
        """How much is kept of a log that nobody follows any more: nothing, if it was written for followers alone."""
        log = self.logs.get(name)
        if log and now - log.time < FOLLOWED * 1000:
            return FEW
        self.logs.pop(name, None)
        return 0

    def outdated(self, now: int) -> list[str]:
        """Take out logs that are not written to any more, and those for which there is no room."""
        gone = list[str]()
        for name, log in self.logs.items():
            crowded = (len(self.logs) - len(gone)) * self._costs.log > self.share * CROWDED
            if not crowded and now - log.time <= FORGOTTEN * 1000:
                break
            gone.append(name)
        for name in gone:
            del self.logs[name]
        return gone


class Retention:
    """Counts what is written to logs, `total` bytes of which may be kept."""

    def __init__(self, total: int, costs: Costs) -> None:
        self._costs = costs
        self._kinds = {word: _Kind(share * total, costs, word == NAMED) for word, share in SHARES.items()}
        self._others = _Kind(OTHERS * total, costs, named=False)
        self._trims: dict[str, int] = {}

    def admit(self, entry: Entry, now: int) -> int:
        """Count an entry; answers how many of its log are kept, this one included. `now` is monotonic."""
        kind, name = self._kind(entry.log), entry.log
        log = kind.logs.pop(name, None) or _Log()
        kind.logs[name] = log  # behind all others
        log.time = now
        size = self._costs.entry + len(entry.key) + len(entry.data)
        log.largest = max(size, log.largest * (1 - 1 / log.keep))  # what was larger has gone by then
        for ended in kind.unfollowed(now):
            self._trims[ended] = kind.left(ended, now)
        self._trims |= dict.fromkeys(kind.outdated(now), 0)
        if kind.resized():
            self._trims |= {each: kind.keep(each) for each in kind.logs}
        self._trims.pop(name, None)
        log.keep = kind.keep(name)
        return log.keep

    def follow(self, log: str, now: int) -> None:
        """Somebody follows this log: for some time it keeps more. `now` is monotonic."""
        followed = self._kind(log).followed
        followed.pop(log, None)  # behind all others
        followed[log] = now + FOLLOWED * 1000

    def trims(self) -> dict[str, int]:
        """Logs that are to be cut, since the last time: how many of the newest entries each keeps; 0: it goes."""
        trims, self._trims = self._trims, {}
        return trims

    def _kind(self, log: str) -> _Kind:
        return self._kinds.get(log.partition(":")[0], self._others)


def _doubled(count: int) -> int:
    """The next power of two: what is divided by it changes seldom."""
    return 1 << max(count - 1, 0).bit_length()
