"""A store in memory that fails as often as a test says."""

from services.adapters.memory import MemoryStore
from services.adapters.memory.store import Storable
from services.core.errors import Unavailable


class FailingStore(MemoryStore):
    """A store whose next `failures` saves raise Unavailable, alternately before and after the commit."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    async def save(self, *items: Storable) -> None:
        self.failures -= 1
        if self.failures >= 0 and self.failures % 2:
            raise Unavailable("not committed")
        await super().save(*items)
        if self.failures >= 0:
            raise Unavailable("committed, but the response was lost")
