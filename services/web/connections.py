"""How many connections a process holds. Beyond that, whoever holds most of them loses its oldest idle ones."""

from collections import defaultdict
from collections.abc import Iterable
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Protocol, TypeVar

MAX_PLAIN_CONNECTIONS = 4_096  # beside the live ones
RESERVED_DESCRIPTORS = 512  # for what is no client: the store, the bus, the exchanges
DROP_FRACTION = 1 / 16  # of all connections, that go at once: to look for them costs a look at each


class Connection(Protocol):
    """What is known of one connection."""

    @property
    def client_key(self) -> str:
        """Whose it is: an IPv4 address, or an IPv6 network."""

    @property
    def opened_at(self) -> float:
        """When it was opened: seconds, monotonic."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered, or what is answered is not read."""


AnyConnection = TypeVar("AnyConnection", bound=Connection)


def connection_limit(live: int) -> int:
    """How many connections there may be so that `live` of them are streams.

    They are fewer where the system allows this process fewer files. Many shells begin with 1,024: that is raised.
    """
    wanted = live + MAX_PLAIN_CONNECTIONS + RESERVED_DESCRIPTORS
    soft, hard = (wanted if most == RLIM_INFINITY else most for most in getrlimit(RLIMIT_NOFILE))
    files = max(soft, min(hard, wanted))
    if files > soft:
        setrlimit(RLIMIT_NOFILE, (files, getrlimit(RLIMIT_NOFILE)[1]))
    return min(live + MAX_PLAIN_CONNECTIONS, max(files - RESERVED_DESCRIPTORS, files // 2))


def connections_to_drop(connections: Iterable[AnyConnection]) -> list[AnyConnection]:
    """Those that are to go."""
    held = defaultdict[str, list[AnyConnection]](list)
    for each in connections:
        held[each.client_key].append(each)
    most = max(held.values(), key=len, default=[])
    idle = sorted((each for each in most if each.is_idle), key=lambda each: each.opened_at)
    return idle[: max(1, int(len(most) * DROP_FRACTION))]
