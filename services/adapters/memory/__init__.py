"""Bus, cache and journal of one process: nothing to install, nothing kept when it ends."""

from services.adapters.memory.bus import MemoryBus
from services.adapters.memory.cache import MemoryCache
from services.adapters.memory.journal import MemoryJournal

__all__ = ["MemoryBus", "MemoryCache", "MemoryJournal"]
