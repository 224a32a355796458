"""Can any exchange be reached?"""

import asyncio
from collections.abc import Iterable

import httpx

from services.core.exchange import Exchange


async def reachable(exchanges: Iterable[Exchange], seconds: float) -> bool:
    """Whether any host of any exchange answers a ping well within `seconds`."""
    async with httpx.AsyncClient(timeout=seconds) as client:
        urls = [origin + exchange.ping for exchange in exchanges for origin in exchange.rests]
        pings = {asyncio.create_task(_answers(client, url)) for url in urls}
        try:
            for first in asyncio.as_completed(pings, timeout=seconds):
                if await first:
                    return True
        except TimeoutError:
            pass
        finally:
            for ping in pings:
                ping.cancel()
            await asyncio.gather(*pings, return_exceptions=True)
    return False


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False
