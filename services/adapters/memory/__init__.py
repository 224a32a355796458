"""Bus, cache, journal and store in the memory of one process: no server is needed, and nothing outlives the process."""

from services.adapters.memory.bus import MemoryBus
from services.adapters.memory.cache import MemoryCache
from services.adapters.memory.journal import MemoryJournal
from services.adapters.memory.store import MemoryStore

__all__ = ["MemoryBus", "MemoryCache", "MemoryJournal", "MemoryStore"]
