"""The store on PostgreSQL or SQLite: a module for each table."""

from services.adapters.sql.market_databases import market_url, stored_market
from services.adapters.sql.migrate import migrate
from services.adapters.sql.sqlite_files import FilesInUse, move_simulated_file, own_files, sqlite_file
from services.adapters.sql.store import SqlStore, connect

__all__ = [
    "FilesInUse",
    "SqlStore",
    "connect",
    "market_url",
    "migrate",
    "move_simulated_file",
    "own_files",
    "sqlite_file",
    "stored_market",
]
