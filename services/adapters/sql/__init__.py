"""The store on PostgreSQL or SQLite: a file per noun."""

from services.adapters.sql.market_databases import address, kept
from services.adapters.sql.migrate import migrate
from services.adapters.sql.sqlite_files import Owned, file, owned, separate
from services.adapters.sql.store import SqlStore, connect

__all__ = ["Owned", "SqlStore", "address", "connect", "file", "kept", "migrate", "owned", "separate"]
