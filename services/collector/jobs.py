"""Collects: exchanges → ticks, gaps and how the exchanges stand."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import httpx

from services.collector.backfill import Backfill
from services.collector.exchange_feed import ExchangeFeed
from services.collector.instrument_status import watch_instruments
from services.collector.polling import poll_prices
from services.collector.progress import show_progress
from services.collector.publishing import publish_queued, publish_status, repeat_quotes
from services.collector.rest_client import RestClient
from services.collector.socket_loop import stay_connected
from services.collector.socket_session import USER_AGENT
from services.collector.trade_gaps import refetch_missing_trades
from services.core.backoff import delays
from services.outbound import http_client, proxy_for
from services.ports import Deps

log = logging.getLogger(__name__)


async def collect(deps: Deps) -> None:
    """Everything at every exchange of `deps`. One that goes wrong takes nothing else with it."""
    client = http_client(deps.settings, timeout=httpx.Timeout(5, connect=3), headers={"user-agent": USER_AGENT})
    async with client, asyncio.TaskGroup() as group:
        lines = [ExchangeFeed(exchange, deps) for exchange in deps.exchanges]
        group.create_task(show_progress(lines, deps.clock))
        for line in lines:
            if proxy := proxy_for(deps.settings, line.exchange.rest_urls[0]):
                log.info("%s is reached through the proxy %s", line.exchange.name, proxy)
            rest = RestClient(line, client)
            for work in (stay_connected, publish_queued, repeat_quotes, publish_status):
                group.create_task(_restart_on_error(line, partial(work, line)))
            for asking in (watch_instruments, poll_prices, refetch_missing_trades):
                group.create_task(_restart_on_error(line, partial(asking, line, rest)))
            group.create_task(_restart_on_error(line, Backfill(line, rest, deps).run))


async def _restart_on_error(feed: ExchangeFeed, work: Callable[[], Awaitable[None]]) -> None:
    """Begin again what broke. It should not: what exchanges do wrong is met where it happens."""
    for pause in delays(0.5, 30):
        try:
            await work()
        except Exception:
            log.exception("%s: a part of the collector broke and begins again", feed.exchange.name)
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from None  # a group of tasks whose member fails meanwhile drops it
        else:
            return
        await feed.clock.sleep(pause)


JOBS = [collect]
