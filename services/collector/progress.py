"""A bar on a terminal, while much history is still to be loaded."""

from collections.abc import Sequence

from services.collector.exchange_feed import Line
from services.core.model import Progress
from services.ports import Clock
from services.progress_bar import Meter

MUCH = 500  # candles; less is loaded before anybody has read of it
LOOK = 0.3  # seconds between two looks


async def show_progress(lines: Sequence[Line], clock: Clock) -> None:
    """One bar for all exchanges, whenever there is much to load, for ever."""
    while True:
        await clock.sleep(LOOK)
        known = _all(lines)
        if known.missing < MUCH:
            continue
        with Meter("history", known.expected) as meter:
            while (now := _all(lines)).missing and now.expected == known.expected:
                meter.at(now.expected - now.missing, f"{now.missing:,} candles to load")
                await clock.sleep(LOOK)


def _all(lines: Sequence[Line]) -> Progress:
    known = [line.history for line in lines if line.history]
    return Progress(sum(each.expected for each in known), sum(each.missing for each in known))
