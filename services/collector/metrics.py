"""Metrics of the collector."""

from prometheus_client import Counter, Gauge

MESSAGES = Counter("kurs_collector_messages_total", "Messages parsed", ["exchange"])
MALFORMED = Counter("kurs_collector_garbage_total", "Messages that cannot be parsed", ["exchange"])
RECONNECTS = Counter("kurs_collector_reconnects_total", "Connections that were lost", ["exchange"])
MISSED_TRADES = Counter(
    "kurs_collector_missed_trades_total", "Missing trades that the exchange did not send again", ["exchange"]
)
REJECTED = Counter(
    "kurs_collector_rejected_total",
    "Values out of range, by reason: each is dropped alone",
    ["exchange", "reason"],
)
CLOCK_OFFSET = Gauge("kurs_collector_clock_offset_seconds", "How far an exchange's clock is ahead", ["exchange"])
