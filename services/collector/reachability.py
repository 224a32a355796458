"""Can any exchange be reached?"""

import asyncio
from collections.abc import Iterable

import httpx

from services import outbound
from services.core.exchange import Exchange
from services.settings import Settings


async def unreachable_reason(exchanges: Iterable[Exchange], settings: Settings, seconds: float) -> str | None:
    """Why no host of any exchange answers a ping well within `seconds`; None: one does. Raises Misconfigured."""
    hosts = [(exchange, origin) for exchange in exchanges for origin in exchange.rest_urls]
    reasons = {exchange.name: f"no answer within {seconds:g} s" for exchange, _ in hosts}
    async with outbound.http_client(settings, timeout=seconds) as client:
        pings = {asyncio.create_task(_ping(client, settings, *host)) for host in hosts}
        try:
            for first in asyncio.as_completed(pings, timeout=seconds):
                name, reason = await first
                if reason is None:
                    return None
                reasons[name] = reason
        except TimeoutError:
            pass
        finally:
            for ping in pings:
                ping.cancel()
            await asyncio.gather(*pings, return_exceptions=True)
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


async def _ping(
    client: httpx.AsyncClient, settings: Settings, exchange: Exchange, origin: str
) -> tuple[str, str | None]:
    """The exchange, and why this host of it does not serve us."""
    try:
        answer = await client.get(origin + exchange.ping_path)
    except httpx.HTTPError as error:
        return exchange.name, outbound.failure_text(error, outbound.proxy_for(settings, origin))
    return exchange.name, None if answer.status_code == 200 else f"answer {answer.status_code}"
