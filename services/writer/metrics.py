"""Metrics of the writer."""

from prometheus_client import Counter, Gauge, Histogram

CANDLES_SAVED = Counter("kurs_writer_candles_total", "Candles saved, new and changed ones", ["exchange"])
CONTRADICTED_CANDLES = Counter(
    "kurs_writer_differences_total", "Closed candles of ours that differ from the exchange's", ["exchange"]
)
DEAD_LETTERS = Counter(
    "kurs_writer_dead_letters_total", "Messages that cannot be saved and became dead letters", ["kind", "cause"]
)
DEAD_LETTERS_KEPT = Gauge("kurs_dead_letters", "Dead letters that wait for a person")
BATCH_SECONDS = Histogram("kurs_writer_batch_seconds", "From receiving a batch to its commit")
