"""Progress bar on a terminal while much history is missing."""

from collections.abc import Sequence

from services.collector.exchange_feed import ExchangeFeed
from services.core.model import BackfillProgress
from services.ports import Clock
from services.progress_bar import ProgressBar

MIN_MISSING_CANDLES = 500  # fewer are fetched before anybody has read the bar
REFRESH_SECONDS = 0.3


async def show_progress(feeds: Sequence[ExchangeFeed], clock: Clock) -> None:
    """Show one bar for all exchanges whenever much is missing."""
    while True:
        await clock.sleep(REFRESH_SECONDS)
        total = _total_progress(feeds)
        if total.missing < MIN_MISSING_CANDLES:
            continue
        with ProgressBar("history", total.expected) as bar:
            while (current := _total_progress(feeds)).missing and current.expected == total.expected:
                bar.update(current.expected - current.missing, f"{current.missing:,} candles to load")
                await clock.sleep(REFRESH_SECONDS)


def _total_progress(feeds: Sequence[ExchangeFeed]) -> BackfillProgress:
    progress = [feed.backfill_progress for feed in feeds if feed.backfill_progress]
    return BackfillProgress(sum(each.expected for each in progress), sum(each.missing for each in progress))
