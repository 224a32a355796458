"""What the writer counts."""

from prometheus_client import Counter, Gauge, Histogram

CANDLES_SAVED = Counter("kurs_writer_candles_total", "Candles saved, new ones and changed ones", ["exchange"])
CONTRADICTED_CANDLES = Counter(
    "kurs_writer_differences_total", "Closed candles of ours that the exchange's own contradicted", ["exchange"]
)
DEAD_LETTERS = Counter(
    "kurs_writer_dead_letters_total", "Messages that could not be kept and were set aside, and why", ["kind", "cause"]
)
DEAD_LETTERS_KEPT = Gauge("kurs_dead_letters", "Dead letters that wait for a person")
BATCH_SECONDS = Histogram("kurs_writer_batch_seconds", "From taking a batch to its commit")
