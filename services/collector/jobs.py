"""The collector's job: everything at every exchange, each part restarted on an error."""

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
from services.sequencing import sequenced_publisher

REQUEST_TIMEOUT = httpx.Timeout(5, connect=3)  # seconds
FIRST_RESTART_SECONDS, MAX_RESTART_SECONDS = 0.5, 30
log = logging.getLogger(__name__)


async def collect(deps: Deps) -> None:
    """Collect from every exchange of `deps`. An exchange that fails stops no other."""
    client = http_client(deps.settings, timeout=REQUEST_TIMEOUT, headers={"user-agent": USER_AGENT})
    async with client, asyncio.TaskGroup() as group:
        feeds = [
            ExchangeFeed(exchange, settings=deps.settings, bus=deps.bus, clock=deps.clock)
            for exchange in deps.exchanges
        ]
        group.create_task(show_progress(feeds, deps.clock))
        for feed in feeds:
            if proxy := proxy_for(deps.settings, feed.exchange.rest_urls[0]):
                log.info("%s is reached through the proxy %s", feed.exchange.name, proxy)
            rest_client = RestClient(feed, client)
            for work in (stay_connected, publish_queued, repeat_quotes):
                group.create_task(_restart_on_error(feed, partial(work, feed)))
            group.create_task(_restart_on_error(feed, partial(publish_status, feed, sequenced_publisher(deps))))
            for requesting in (watch_instruments, poll_prices, refetch_missing_trades):
                group.create_task(_restart_on_error(feed, partial(requesting, feed, rest_client)))
            backfill = Backfill(feed, rest_client, store=deps.store, cache=deps.cache)
            group.create_task(_restart_on_error(feed, backfill.run))


async def _restart_on_error(feed: ExchangeFeed, work: Callable[[], Awaitable[None]]) -> None:
    """Restart a part that raises. It should not: errors of an exchange are handled where they occur."""
    for pause in delays(FIRST_RESTART_SECONDS, MAX_RESTART_SECONDS):
        try:
            await work()
        except Exception:
            log.exception("%s: a part of the collector failed and is restarted", feed.exchange.name)
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from None  # a TaskGroup with a failed member drops the cancellation
        else:
            return
        await feed.clock.sleep(pause)


JOBS = [collect]
