"""The three exchanges' own wires, served locally on one port, with faults on demand.

An exchange's address is `/simulator/<exchange>` in place of its origin; everything behind it is as on the wire.
"""

from fastapi import APIRouter

from services.simulator import control
from services.simulator.binance.routes import router as binance
from services.simulator.coingecko.routes import router as coingecko
from services.simulator.deribit.routes import router as deribit
from services.simulator.jobs import load_replay

ROUTERS: list[APIRouter] = [binance, deribit, coingecko, control.router]
JOBS = [load_replay]
NEEDS: tuple[str, ...] = ()  # it is ready without any other part
