"""The underlying: each asset's price in USD, on a grid of ten seconds, at any time since 2017.

Days are anchored by a slow walk about the asset's trend, and hours by a bridge from anchor to anchor. Through an hour
the price takes the shape that ends nearest to where the next hour begins. So any stretch of time can be drawn without
what was before it, years of hours at once, and all exchanges follow the same price.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from services.core.model import Instrument
from services.simulator.market.listings import ASSETS, DAY, HOUR, MINUTE
from services.simulator.market.shapes import SLICE_MS, Floats, Ints, end, generator, shapes, variant

TREND_DAYS = (17_395, 20_454)  # days between which the trend runs: 2017-08-17 to 2026-01-01
HORIZON_DAYS = 2**15  # days of anchors: to 2059
REVERSION = 0.995  # how much of its distance from the trend a price keeps from one day to the next
DRIFT_KNOTS = 4096  # a wander repeats after so many
DAYS_PER_CHUNK = 512  # days whose hours are drawn together


class ReplayLead(NamedTuple):
    """Real prices that an asset follows, as logarithms in `quote` at ascending times."""

    quote: str
    times: Ints
    logs: Floats


class PriceModel:
    """Logarithms of prices in USD. An asset with a lead follows it from its first time on."""

    def __init__(self, seed: int, leads: Mapping[str, ReplayLead] | None = None) -> None:
        self.seed, self._leads = seed, leads or {}
        self._hours = lru_cache(None)(self._draw_hours)
        self._anchors = lru_cache(None)(self._draw_anchors)
        self._knots = lru_cache(None)(self._draw_knots)
        self._slice = lru_cache(8192)(self._at)

    def block_ms(self, instrument: Instrument) -> int:
        """Return the length of a pair's blocks in ms. Real prices are followed minute by minute."""
        return MINUTE if self._leads.keys() & set(instrument[:2]) else HOUR

    def log_rate(self, instrument: Instrument, times: Ints) -> Floats:
        """Return the logarithm of a pair's price at ascending times."""
        return self.log_prices(instrument.base, times) - self.log_prices(instrument.quote, times)

    def log_price_at(self, asset: str, time: int) -> float:
        """Return the logarithm of an asset's price in USD at one time."""
        return self._slice(asset, time // SLICE_MS)

    def log_prices(self, asset: str, times: Ints) -> Floats:
        """Return the logarithms of an asset's price in USD at ascending times."""
        lead = self._leads.get(asset)
        return self._follow_lead(asset, times, lead) if lead else self._draw(asset, times)

    def drift(self, name: str, times: Ints, period: int) -> Floats:
        """Return a drift of about ±1 at ascending times, with a new direction every `period` ms. `name` seeds it."""
        steps = np.arange(times[0] // period, times[-1] // period + 2)
        return np.asarray(np.interp(times, steps * period, self._knots(name)[steps % DRIFT_KNOTS]))

    def _at(self, asset: str, number: int) -> float:
        return float(self.log_prices(asset, np.array([number * SLICE_MS]))[0])

    def _follow_lead(self, asset: str, times: Ints, lead: ReplayLead) -> Floats:
        """Return the lead's last price; before its first the drawn path, shifted to meet it."""
        first = int(lead.times[0])
        met = lead.logs[0] + self.log_price_at(lead.quote, first) - self._draw(asset, np.array([first]))[0]
        row = np.searchsorted(lead.times, times // SLICE_MS * SLICE_MS + SLICE_MS, side="right") - 1
        return np.where(row < 0, self._draw(asset, times) + met, lead.logs[row] + self.log_prices(lead.quote, times))

    def _draw(self, name: str, times: Ints) -> Floats:
        asset, times = ASSETS[name], times // SLICE_MS * SLICE_MS
        if asset.last is None:
            drift = self.drift(name, times, 2 * HOUR) + 2 * self.drift(f"{name} slow", times, 30 * DAY)
            return np.asarray(np.log(asset.first) + asset.volatility * drift / 2)
        hours = times // HOUR
        logs, row = self._logs_of_hours(name, int(hours[0]), int(hours[-1]) + 2), hours - hours[0]
        if not (times % HOUR).any():  # where every shape begins
            return np.asarray(logs[row])
        ends = end(np.diff(logs) / hourly_volatility(asset.volatility))[row]
        inner = shapes(self.seed, HOUR)[ends, variant(hours), times % HOUR // SLICE_MS]
        return np.asarray(logs[row] + hourly_volatility(asset.volatility) * inner)

    def _logs_of_hours(self, name: str, first: int, last: int) -> Floats:
        """Return the prices at the start of the hours [first, last), counted from 1970."""
        drawn = 24 * DAYS_PER_CHUNK
        chunks = range(first // drawn, -(-last // drawn))
        skipped = chunks.start * drawn
        return np.concatenate([self._hours(name, chunk) for chunk in chunks])[first - skipped : last - skipped]

    def _draw_hours(self, name: str, chunk: int) -> Floats:
        steps = generator(self.seed, name, "hours", chunk).standard_normal((DAYS_PER_CHUNK, 24))
        walk = np.cumsum(steps * hourly_volatility(ASSETS[name].volatility), axis=1)
        anchors = self._anchors(name)[chunk * DAYS_PER_CHUNK : (chunk + 1) * DAYS_PER_CHUNK + 1]
        drift = (np.diff(anchors) - walk[:, -1])[:, None] * (np.arange(24) / 24)
        return (anchors[:-1, None] + np.hstack((np.zeros((DAYS_PER_CHUNK, 1)), walk[:, :-1])) + drift).ravel()

    def _draw_anchors(self, name: str) -> Floats:
        """Draw one anchor per day from 1970 on: most of the distance from the trend of the day before, and a step."""
        asset, days = ASSETS[name], np.arange(HORIZON_DAYS)
        trend = np.interp(days, TREND_DAYS, np.log((asset.first, asset.last or asset.first)))
        steps = generator(self.seed, name, "anchors").standard_normal(HORIZON_DAYS) * asset.volatility
        decay = REVERSION**days
        return np.asarray(trend + np.cumsum(steps / decay) * decay)

    def _draw_knots(self, name: str) -> Floats:
        return generator(self.seed, name, "knots").standard_normal(DRIFT_KNOTS)


def hourly_volatility(volatility: float) -> float:
    """Return a daily volatility as an hourly one."""
    return volatility / 24**0.5


def usual_move(instrument: Instrument, length: int) -> float:
    """Return the standard deviation of a pair's move in so many ms, as a logarithm."""
    base, quote = (ASSETS[asset].volatility for asset in instrument[:2])
    return float(np.hypot(base, quote) * (length / DAY) ** 0.5)
