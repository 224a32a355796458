"""How much of the series in use is loaded."""

from services.api.backfill_status import BackfillStatus
from services.api.streams.channels import Channel
from services.core.model import Series, SeriesProgress


class LoadingProgress:
    """The progress of each series, computed once a second for all clients."""

    def __init__(self, backfill: BackfillStatus) -> None:
        self._backfill = backfill
        self._by_series: dict[Series, SeriesProgress | None] = {}

    def progress(self, channel: Channel) -> SeriesProgress | None:
        """Return how far a channel's series is loaded; None: all of it is, or it has none."""
        series = channel.series
        if series is None:
            return None
        if series not in self._by_series:
            self._by_series[series] = self._backfill.progress(series)
        return self._by_series[series]

    def refresh(self) -> None:
        """Compute them again when they are needed."""
        self._by_series.clear()
