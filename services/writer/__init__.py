"""Keeps what must outlive the processes: candles with their holes and seals, gaps, and the last known rates."""

from services.writer.jobs import keep_candles, keep_rates
from services.writer.quarantine import checks
from services.writer.store_queries import answer_queries

JOBS = [keep_candles, keep_rates, answer_queries]
CHECKS = checks
NEEDS = ("bus", "store", "saving")
ROLE = "writer"
