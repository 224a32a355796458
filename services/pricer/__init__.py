"""The pricer: turns quotes into rates with their age and legs, for the bus and the cache."""

from services.pricer.jobs import price

JOBS = [price]
ROLE = "pricer"
