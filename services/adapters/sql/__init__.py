"""The store on PostgreSQL or SQLite: a file per noun."""

from services.adapters.sql.migrate import migrate
from services.adapters.sql.store import SqlStore, connect

__all__ = ["SqlStore", "connect", "migrate"]
