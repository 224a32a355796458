"""Cache and journal on Redis. They connect when first used, so that a process can start before Redis."""

from services.adapters.redis.cache import RedisCache
from services.adapters.redis.journal import RedisJournal

__all__ = ["RedisCache", "RedisJournal"]
