"""Writer: builds candles and saves everything that outlives the processes: candles with gaps and seals, feed gaps,
dead letters, and the last rates."""

from services.writer.jobs import write_candles, write_rates
from services.writer.quarantine import checks
from services.writer.store_queries import serve_store_queries

JOBS = [write_candles, write_rates, serve_store_queries]
CHECKS = checks
NEEDS = ("bus", "store", "saving")
ROLE = "writer"
