"""Metrics of the analyst."""

from prometheus_client import Counter, Histogram

ROWS = Counter("kurs_analyst_rows_total", "Indicator values and analyses that were computed and saved")
RECOMPUTE_SECONDS = Histogram("kurs_analyst_series_seconds", "From reading the changes of a series to their commit")
