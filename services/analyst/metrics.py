"""What the analyst counts."""

from prometheus_client import Counter, Histogram

ROWS = Counter("kurs_analyst_rows_total", "Readings and analyses that were computed and saved")
RECOMPUTE_SECONDS = Histogram("kurs_analyst_series_seconds", "From taking up what changed in a series to its commit")
