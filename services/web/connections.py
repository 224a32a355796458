"""The limit to a process's connections. Beyond it, the client with most of them loses its oldest idle ones."""

from collections import defaultdict
from collections.abc import Iterable
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Protocol, TypeVar

MAX_PLAIN_CONNECTIONS = 4_096  # beside streams
RESERVED_DESCRIPTORS = 512  # files for the store, the bus, the exchanges
DROP_FRACTION = 1 / 16  # of that client's connections: to find them takes a look at all


class Connection(Protocol):
    """What the limit needs to know of a connection."""

    @property
    def client_key(self) -> str:
        """The client's IPv4 address, or IPv6 network."""

    @property
    def opened_at(self) -> float:
        """Monotonic seconds."""

    @property
    def is_idle(self) -> bool:
        """Whether no response is being sent, or the client does not read it."""


AnyConnection = TypeVar("AnyConnection", bound=Connection)


def connection_limit(live: int) -> int:
    """Return how many connections there may be so that `live` of them can be streams.

    It raises the system's limit to open files, 1,024 in many shells, and returns less where that is impossible.
    """
    wanted = live + MAX_PLAIN_CONNECTIONS + RESERVED_DESCRIPTORS
    soft, hard = (wanted if most == RLIM_INFINITY else most for most in getrlimit(RLIMIT_NOFILE))
    files = max(soft, min(hard, wanted))
    if files > soft:
        setrlimit(RLIMIT_NOFILE, (files, getrlimit(RLIMIT_NOFILE)[1]))
    return min(live + MAX_PLAIN_CONNECTIONS, max(files - RESERVED_DESCRIPTORS, files // 2))


def connections_to_drop(connections: Iterable[AnyConnection]) -> list[AnyConnection]:
    """Return the connections to drop."""
    held = defaultdict[str, list[AnyConnection]](list)
    for each in connections:
        held[each.client_key].append(each)
    most = max(held.values(), key=len, default=[])
    idle = sorted((each for each in most if each.is_idle), key=lambda each: each.opened_at)
    return idle[: max(1, int(len(most) * DROP_FRACTION))]
