"""The ports of one process in memory, for tests."""

from dataclasses import replace
from typing import TypedDict, Unpack

from services.account_ports import AccountStore
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal, MemoryStore
from services.core.exchange import Exchange
from services.hub import Hub
from services.ports import Bus, Cache, Clock, Deps, Journal, Store
from services.settings import Settings


class Ports(TypedDict, total=False):
    """Ports that a test chooses."""

    clock: Clock
    bus: Bus
    cache: Cache
    store: Store
    hub: Hub
    exchanges: tuple[Exchange, ...]
    journal: Journal
    accounts: AccountStore


def make_deps(settings: Settings | None = None, **ports: Unpack[Ports]) -> Deps:
    """Return Deps with these ports. The other ones are empty, in memory and on the machine's clock."""
    clock = ports.get("clock", SystemClock())
    in_memory = Deps(
        settings=settings or Settings(_env_file=None),
        clock=clock,
        bus=MemoryBus(),
        cache=MemoryCache(),
        store=MemoryStore(),
        hub=Hub(clock),
        exchanges=(),
        journal=MemoryJournal(),
    )
    return replace(in_memory, **ports)
