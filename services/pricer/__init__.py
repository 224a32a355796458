"""Keeps the live rates: what exchanges say comes in, rates with their age and origin go to the cache and the bus."""

from services.pricer.jobs import price

JOBS = [price]
ROLE = "pricer"
