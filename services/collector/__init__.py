"""Collector: reads the exchanges and publishes their quotes, trades, klines, gaps and status."""

from services.collector.jobs import JOBS

__all__ = ["JOBS"]
