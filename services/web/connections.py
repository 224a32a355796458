"""How many connections a process holds. Beyond that, whoever holds most of them loses its oldest idle ones."""

from collections import defaultdict
from collections.abc import Iterable
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Protocol, TypeVar

PLAIN_CONNECTIONS = 4_096  # beside the live ones
RESERVED_FILES = 512  # for what is no client: the store, the bus, the exchanges
DROPPED = 1 / 16  # of all connections, that go at once: to look for them costs a look at each


class Connection(Protocol):
    """What is known of one connection."""

    @property
    def customer(self) -> str:
        """Whose it is: an IPv4 address, or an IPv6 network."""

    @property
    def opened(self) -> float:
        """When it was opened: seconds, monotonic."""

    @property
    def expendable(self) -> bool:
        """Whether nothing is being answered, or what is answered is not read."""


Each = TypeVar("Each", bound=Connection)


def connection_limit(live: int) -> int:
    """How many connections there may be so that `live` of them are streams.

    They are fewer where the system allows this process fewer files. Many shells begin with 1,024: that is raised.
    """
    wanted = live + PLAIN_CONNECTIONS + RESERVED_FILES
    soft, hard = (wanted if most == RLIM_INFINITY else most for most in getrlimit(RLIMIT_NOFILE))
    files = max(soft, min(hard, wanted))
    if files > soft:
        setrlimit(RLIMIT_NOFILE, (files, getrlimit(RLIMIT_NOFILE)[1]))
    return min(live + PLAIN_CONNECTIONS, max(files - RESERVED_FILES, files // 2))


def surplus(connections: Iterable[Each]) -> list[Each]:
    """Those that are to go."""
    held = defaultdict[str, list[Each]](list)
    for each in connections:
        held[each.customer].append(each)
    most = max(held.values(), key=len, default=[])
    idle = sorted((each for each in most if each.expendable), key=lambda each: each.opened)
    return idle[: max(1, int(len(most) * DROPPED))]
