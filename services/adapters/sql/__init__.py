"""The store on PostgreSQL or SQLite: a file per noun."""

from services.adapters.sql.files import Owned, file, owned, separate
from services.adapters.sql.markets import address, kept
from services.adapters.sql.migrate import migrate
from services.adapters.sql.store import SqlStore, connect

__all__ = ["Owned", "SqlStore", "address", "connect", "file", "kept", "migrate", "owned", "separate"]
