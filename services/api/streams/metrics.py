"""Metrics of the live streams."""

from prometheus_client import Counter, Gauge

CLIENTS = Gauge("kurs_stream_clients", "Clients of live streams", ["protocol"])
REFUSED = Counter("kurs_stream_refused_total", "Clients that were refused", ["reason"])
SKIPPED = Counter("kurs_stream_skipped_total", "Times that entries were skipped because a client read too slowly")
CUT = Counter("kurs_stream_cut_total", "Clients that were disconnected because they did not read")
