"""Keeps what closed candles say: the standard indicators and an analysis of each; and tells what the forming ones say
now."""

from services.analyst.jobs import analyse, delete_old_rows

JOBS = [analyse, delete_old_rows]
NEEDS = ("bus", "store", "saving")
ROLE = "analyst"
