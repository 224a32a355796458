"""Exchanges → ticks, gaps and states."""

from services.collector.jobs import JOBS

__all__ = ["JOBS"]
