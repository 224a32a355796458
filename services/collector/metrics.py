"""What the collector counts."""

from prometheus_client import Counter, Gauge

MESSAGES = Counter("kurs_collector_messages_total", "Messages understood", ["exchange"])
MALFORMED = Counter("kurs_collector_garbage_total", "Messages that could not be understood", ["exchange"])
RECONNECTS = Counter("kurs_collector_reconnects_total", "Connections that had to be made again", ["exchange"])
MISSED_TRADES = Counter(
    "kurs_collector_missed_trades_total", "Trades that never came, nor when asked for again", ["exchange"]
)
REJECTED = Counter(
    "kurs_collector_rejected_total", "Values out of range: each costs only itself, and why", ["exchange", "reason"]
)
CLOCK_OFFSET = Gauge("kurs_collector_clock_offset_seconds", "How far an exchange's clock is ahead", ["exchange"])
