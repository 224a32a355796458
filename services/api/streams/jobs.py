"""What a replica does for streams beside serving them: it hears what indicators say."""

from services import bus_input
from services.core.model import Reading
from services.ports import Deps


async def hear(deps: Deps) -> None:
    """Readings go to this process's hub; rates and candles are brought there by those who answer with them."""
    async with bus_input.listen(deps, Reading) as messages:
        async for message in messages:
            deps.hub.put(message)
