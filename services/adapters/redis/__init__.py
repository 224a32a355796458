"""Cache and journal on Redis. They connect when first used: nobody must wait for Redis to start."""

from services.adapters.redis.cache import RedisCache
from services.adapters.redis.journal import RedisJournal

__all__ = ["RedisCache", "RedisJournal"]
