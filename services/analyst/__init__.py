"""Keeps what closed candles say: the standard indicators and an analysis of each; and tells what the forming ones say
now."""

from services.analyst.jobs import analyse, forget

JOBS = [analyse, forget]
NEEDS = ("bus", "store", "saving")
ROLE = "analyst"
