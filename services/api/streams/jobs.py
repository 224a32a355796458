"""What a replica does for streams beside serving them: it hears what indicators say."""

from services import bus_input
from services.core.model import IndicatorValue
from services.ports import Deps


async def consume_indicator_values(deps: Deps) -> None:
    """Readings go to this process's hub; rates and candles are brought there by those who answer with them."""
    async with bus_input.subscribe(deps, IndicatorValue) as messages:
        async for message in messages:
            deps.hub.apply(message)
