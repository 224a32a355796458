"""Publishes a feed: quotes, trades, klines and gaps as they come, the status each second and at each change."""

import asyncio
import logging

from services.collector.exchange_feed import ExchangeFeed
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.core.model import ExchangeStatus
from services.sequencing import SequencedPublisher

log = logging.getLogger(__name__)

STATUS_INTERVAL_MS = 1_000  # between two statuses while nothing changes
STATUS_CHECK_SECONDS = 0.1
QUOTE_REPEAT_SECONDS = 2.0
MAX_PUBLISHED_MESSAGES = 2_000
BATCH_PAUSE_SECONDS = 0.001  # after a batch that was not full, so that the next one holds more
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.1, 5.0


async def publish_queued(feed: ExchangeFeed) -> None:
    """Publish what the queue holds, as soon as the bus has taken the batch before."""
    pauses = delays(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
    while True:
        await feed.queue.wait_until_ready()
        batch = feed.queue.take(MAX_PUBLISHED_MESSAGES)
        try:
            await feed.bus.publish(*batch)
        except Unavailable as error:
            feed.queue.requeue(batch)
            log.warning("%s: the bus takes nothing, prices and trades are queued: %s", feed.exchange.name, error)
            await feed.clock.sleep(next(pauses))
        else:
            feed.queue.on_published()
            pauses = delays(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
            if len(batch) < MAX_PUBLISHED_MESSAGES:
                await asyncio.sleep(BATCH_PAUSE_SECONDS)


async def repeat_quotes(feed: ExchangeFeed) -> None:
    """Publish the last quote of each instrument again, for processes that subscribed after it."""
    while True:
        await feed.clock.sleep(QUOTE_REPEAT_SECONDS)
        if quotes := feed.tracker.latest_quotes():
            feed.queue.requeue(quotes)


async def publish_status(feed: ExchangeFeed, publisher: SequencedPublisher) -> None:
    """Publish the status. One that the bus does not take is replaced by the next."""
    published: ExchangeStatus | None = None
    next_at = 0
    while True:
        feed.sync_clock()
        status, now = feed.status(), feed.clock.monotonic()
        if published is None or now >= next_at or _change_key(status) != _change_key(published):
            published, next_at = status, now + STATUS_INTERVAL_MS
            try:
                await publisher.publish(status)
            except Unavailable as error:
                log.debug("%s: the status is not published: %s", feed.exchange.name, error)
        await feed.clock.sleep(STATUS_CHECK_SECONDS)


def _change_key(status: ExchangeStatus) -> object:
    """Return what is published at once when it changes."""
    return status.transport, status.host, status.reason, [(feed.instrument, feed.status) for feed in status.feeds]
