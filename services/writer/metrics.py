"""What the writer counts."""

from prometheus_client import Counter, Histogram

SAVED = Counter("kurs_writer_candles_total", "Candles saved, new ones and changed ones", ["exchange"])
DIFFERENCES = Counter(
    "kurs_writer_differences_total", "Closed candles of ours that the exchange's own contradicted", ["exchange"]
)
BATCH = Histogram("kurs_writer_batch_seconds", "From taking a batch to its commit")
