"""Whether any exchange can be reached."""

import asyncio
from collections.abc import Iterable

import httpx

from services import outbound
from services.core.exchange import Exchange
from services.settings import Settings


async def unreachable_reason(exchanges: Iterable[Exchange], settings: Settings, seconds: float) -> str | None:
    """Ping all hosts. Return None if one responds well within `seconds`, or else why. Raises Misconfigured."""
    hosts = [(exchange, url) for exchange in exchanges for url in exchange.rest_urls]
    reasons = {exchange.name: f"no response within {seconds:g} s" for exchange, _ in hosts}
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


async def _ping(client: httpx.AsyncClient, settings: Settings, exchange: Exchange, url: str) -> tuple[str, str | None]:
    """Return the exchange's name, and why this host of it does not serve us."""
    try:
        response = await client.get(url + exchange.ping_path)
    except httpx.HTTPError as error:
        return exchange.name, outbound.failure_text(error, outbound.proxy_for(settings, url))
    return exchange.name, None if response.status_code == 200 else f"response {response.status_code}"
