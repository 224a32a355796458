"""Bus, cache and journal in the memory of one process: no server is needed, and nothing outlives the process."""

from services.adapters.memory.bus import MemoryBus
from services.adapters.memory.cache import MemoryCache
from services.adapters.memory.journal import MemoryJournal

__all__ = ["MemoryBus", "MemoryCache", "MemoryJournal"]
