"""The job that brings indicator values to the streams."""

from services import bus_input
from services.core.model import IndicatorValue
from services.ports import Deps


async def consume_indicator_values(deps: Deps) -> None:
    """Bring indicator values from the bus to the hub.

    Rates and candles come by jobs of their own, each with its own queue at the broker: a full queue drops its oldest
    messages, so a burst of candles or of indicator values must not push rates out.
    """
    async with bus_input.subscribe(deps, IndicatorValue) as messages:
        async for message in messages:
            deps.hub.apply(message)
