"""Metrics of tasks."""

from prometheus_client import Gauge, Histogram

# From the creation of a task to its end, without the time within calls to an exchange.
TASK_SECONDS = Histogram(
    "kurs_task_seconds",
    "Seconds from the creation of a task to its end, without those within calls to an exchange",
    ["name", "outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 1800),
)
WAITING = Gauge("kurs_tasks_waiting", "Queued tasks that no worker has claimed", ["queue"])
OLDEST = Gauge("kurs_tasks_oldest_seconds", "Seconds since the oldest queued task was due", ["queue"])
