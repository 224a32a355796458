"""Simulator: the protocols of three exchanges, served on one local port, with faults on demand.

`/simulator/<exchange>` stands for the exchange's host; paths and messages behind it are as at the exchange.
"""

from fastapi import APIRouter

from services.simulator import control
from services.simulator.binance.routes import router as binance
from services.simulator.coingecko.routes import router as coingecko
from services.simulator.deribit.routes import router as deribit
from services.simulator.jobs import load_replay

ROUTERS: list[APIRouter] = [binance, deribit, coingecko, control.router]
JOBS = [load_replay]
NEEDS: tuple[str, ...] = ()  # it is ready without bus, cache and store
