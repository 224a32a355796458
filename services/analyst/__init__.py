"""Computes indicators and analyses of closed candles and saves them; publishes indicators of forming candles."""

from services.analyst.jobs import analyse, delete_old_rows

JOBS = [analyse, delete_old_rows]
NEEDS = ("bus", "store", "saving")
ROLE = "analyst"
