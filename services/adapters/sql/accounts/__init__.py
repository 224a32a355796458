"""The store of people and tasks on SQL: a module for each group of tables."""

from services.adapters.sql.accounts.store import SqlAccountStore, connect

__all__ = ["SqlAccountStore", "connect"]
