"""What live streams count."""

from prometheus_client import Counter, Gauge

CLIENTS = Gauge("kurs_stream_clients", "Clients of live streams", ["protocol"])
REFUSED = Counter("kurs_stream_refused_total", "Clients that were refused", ["reason"])
SKIPPED = Counter("kurs_stream_skipped_total", "Times that a client was too slow for all of it")
CUT = Counter("kurs_stream_cut_total", "Clients that were cut because they did not read")
