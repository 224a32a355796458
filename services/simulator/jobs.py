"""The simulator's job: it reads the file to replay at the start."""

import asyncio

from services.ports import Deps
from services.simulator.market.replay import read_replay


async def load_replay(deps: Deps) -> None:
    """Read the file before the first request. A file that cannot be used ends the process."""
    if deps.settings.simulator_replay:
        await asyncio.to_thread(read_replay, deps.settings.simulator_replay)
    await asyncio.Event().wait()
