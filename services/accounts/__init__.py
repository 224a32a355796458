"""The accounts service: it runs tasks, and alone can open what people have entrusted to Kurs."""

from services.accounts.composition import compose
from services.accounts.jobs import run_tasks

JOBS = [run_tasks]
NEEDS = ("bus", "store")

__all__ = ["JOBS", "NEEDS", "compose"]
