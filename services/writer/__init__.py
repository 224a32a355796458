"""Keeps what must outlive the processes: candles with their holes and seals, gaps, and the last known rates."""

from services.writer.jobs import write_candles, write_rates
from services.writer.quarantine import checks
from services.writer.store_queries import serve_store_queries

JOBS = [write_candles, write_rates, serve_store_queries]
CHECKS = checks
NEEDS = ("bus", "store", "saving")
ROLE = "writer"
