"""A bar on a terminal, while much history is still to be loaded."""

from collections.abc import Sequence

from services.collector.exchange_feed import ExchangeFeed
from services.core.model import BackfillProgress
from services.ports import Clock
from services.progress_bar import ProgressBar

MIN_MISSING_CANDLES = 500  # candles; less is loaded before anybody has read of it
REFRESH_SECONDS = 0.3  # seconds between two looks


async def show_progress(feeds: Sequence[ExchangeFeed], clock: Clock) -> None:
    """One bar for all exchanges, whenever there is much to load, for ever."""
    while True:
        await clock.sleep(REFRESH_SECONDS)
        known = _total_progress(feeds)
        if known.missing < MIN_MISSING_CANDLES:
            continue
        with ProgressBar("history", known.expected) as meter:
            while (now := _total_progress(feeds)).missing and now.expected == known.expected:
                meter.update(now.expected - now.missing, f"{now.missing:,} candles to load")
                await clock.sleep(REFRESH_SECONDS)


def _total_progress(feeds: Sequence[ExchangeFeed]) -> BackfillProgress:
    known = [line.backfill_progress for line in feeds if line.backfill_progress]
    return BackfillProgress(sum(each.expected for each in known), sum(each.missing for each in known))
