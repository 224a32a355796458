"""What is told: ticks, trades, closed candles and gaps as they come, the state each second and at each change."""

import asyncio
import logging
from contextlib import suppress

from services.collector.exchange_feed import ExchangeFeed
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.core.model import ExchangeStatus
from services.sequencing import SequencedPublisher

log = logging.getLogger(__name__)

STATUS_INTERVAL_MS = 1_000  # ms between two states when nothing changes
QUOTE_REPEAT_SECONDS = 2.0  # seconds
MAX_BATCH_MESSAGES = 2_000  # messages that are published together
STATUS_CHECK_SECONDS = 0.1  # seconds between two looks at whether something did
BATCH_PAUSE_SECONDS = 0.001  # seconds between two letters
EMPTY_QUEUE_CHECK_SECONDS = 60.0  # seconds between two looks at an empty outbox, if nobody says that it is not


async def publish_queued(feed: ExchangeFeed) -> None:
    """All that may go, as soon as the last of it has arrived. What comes meanwhile travels together."""
    pauses = delays(0.1, 5)
    while True:
        await _wait_until_ready(feed)
        batch = feed.queue.take(feed.clock.monotonic(), MAX_BATCH_MESSAGES)
        try:
            await feed.bus.publish(*batch)
        except Unavailable as error:
            feed.queue.requeue(batch)
            log.warning("%s: ticks wait: %s", feed.exchange.name, error)
            await feed.clock.sleep(next(pauses))
        else:
            feed.on_published()
            pauses = delays(0.1, 5)
            if len(batch) < MAX_BATCH_MESSAGES:  # else more is waiting
                await asyncio.sleep(BATCH_PAUSE_SECONDS)


async def _wait_until_ready(feed: ExchangeFeed) -> None:
    """Wait until something may go."""
    while wait := _wait_seconds(feed.queue.ms_until_ready(feed.clock.monotonic())):
        feed.queue_changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await feed.queue_changed.wait()


def _wait_seconds(milliseconds: int | None) -> float:
    return EMPTY_QUEUE_CHECK_SECONDS if milliseconds is None else milliseconds / 1000


async def repeat_quotes(feed: ExchangeFeed) -> None:
    """Say the last quote of each instrument again: who began to listen later knows soon what does not change."""
    while True:
        await feed.clock.sleep(QUOTE_REPEAT_SECONDS)
        if quotes := feed.tracker.latest_quotes():
            feed.queue.requeue(quotes)
            feed.queue_changed.set()


async def publish_status(feed: ExchangeFeed) -> None:
    """The state each second and at each change. One that cannot be published is replaced by the next."""
    told, due = None, 0
    teller = SequencedPublisher(feed.deps)
    while True:
        feed.sync_clock()
        state, now = feed.status(), feed.clock.monotonic()
        if told is None or now >= due or _change_key(state) != _change_key(told):
            told, due = state, now + STATUS_INTERVAL_MS
            try:
                await teller.publish(state)
            except Unavailable:
                log.debug("%s: the state waits for the bus", feed.exchange.name)
        await feed.clock.sleep(STATUS_CHECK_SECONDS)


def _change_key(status: ExchangeStatus) -> object:
    return status.transport, status.host, status.reason, [(source.instrument, source.status) for source in status.feeds]
