"""What the simulator does by itself: it makes sure that the file to replay can be."""

import asyncio

from services.ports import Deps
from services.simulator.market.replay import read_replay


async def load_replay(deps: Deps) -> None:
    """Read the file before anyone asks for it. One that cannot be used ends the process."""
    if deps.settings.simulator_replay:
        await asyncio.to_thread(read_replay, deps.settings.simulator_replay)
    await asyncio.Event().wait()
