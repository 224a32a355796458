"""The underlying: each asset's price in USD, on a grid of ten seconds, at any time since 2017.

Days are anchored by a slow walk about the asset's trend; within a day a Brownian bridge runs from anchor to anchor.
So any day can be drawn without those before it, and all exchanges follow the same price.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.model import Instrument
from services.simulator.market.listings import ASSETS, DAY, MINUTE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLICE = 10_000  # ms: the underlying stands still for so long
SLICES = DAY // SLICE
TREND = (17_395, 20_454)  # days between which the trend runs: 2017-08-17 to 2026-01-01
HORIZON = 2**15  # days of anchors: to 2059
REVERSION = 0.995  # how much of its distance from the trend a price keeps from one day to the next
KNOTS = 4096  # a wander repeats after so many


def generator(*key: object) -> np.random.Generator:
    """Random numbers that depend on `key` alone."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class Lead(NamedTuple):
    """Real prices that an asset follows: logarithms in `quote` at ascending times."""

    quote: str
    times: Ints
    logs: Floats


class Paths:
    """Logarithms of prices in USD. An asset with a lead follows it from its first time on."""

    def __init__(self, seed: int, leads: Mapping[str, Lead] | None = None) -> None:
        self.seed, self._leads = seed, leads or {}
        self.day = lru_cache(256)(self._day)
        self._anchors = lru_cache(None)(self._draw_anchors)
        self._knots = lru_cache(None)(self._draw_knots)

    def cross(self, instrument: Instrument, day: int) -> Floats:
        """The pair's logarithm through one day, one value per slice."""
        return np.subtract(self.day(instrument.base, day), self.day(instrument.quote, day))

    def at(self, asset: str, time: int) -> float:
        """The asset's logarithm at one moment."""
        return float(self.day(asset, time // DAY)[time % DAY // SLICE])

    def wander(self, name: str, times: Ints, period: int) -> Floats:
        """A drift of about ±1 at ascending times, by its name: a new direction each `period` ms."""
        steps = np.arange(times[0] // period, times[-1] // period + 2)
        return np.asarray(np.interp(times, steps * period, self._knots(name)[steps % KNOTS]))

    def _day(self, name: str, day: int) -> Floats:
        return self._led(name, day, self._leads[name]) if name in self._leads else self._drawn(name, day)

    def _led(self, name: str, day: int, lead: Lead) -> Floats:
        """The lead's last price; before its first, the drawn path, shifted to meet it."""
        first = int(lead.times[0])
        met = lead.logs[0] + self.at(lead.quote, first) - self._drawn(name, first // DAY)[first % DAY // SLICE]
        row = np.searchsorted(lead.times, _slices(day) + SLICE, side="right") - 1
        return np.where(row < 0, self._drawn(name, day) + met, lead.logs[row] + self.day(lead.quote, day))

    def _drawn(self, name: str, day: int) -> Floats:
        asset = ASSETS[name]
        if asset.last is not None:
            return self._bridge(name, day, asset.volatility)
        times = _slices(day)
        drift = self.wander(name, times, 120 * MINUTE) + 2 * self.wander(f"{name} slow", times, 30 * DAY)
        return np.asarray(np.log(asset.first) + asset.volatility * drift / 2)

    def _bridge(self, name: str, day: int, volatility: float) -> Floats:
        start, end = self._anchors(name)[day : day + 2]
        walk = np.zeros(SLICES + 1)
        steps = generator(self.seed, name, day).standard_normal(SLICES)
        np.cumsum(steps * (volatility / SLICES**0.5), out=walk[1:])
        return np.asarray(start + walk[:-1] + (end - start - walk[-1]) * (np.arange(SLICES) / SLICES))

    def _draw_anchors(self, name: str) -> Floats:
        asset = ASSETS[name]
        first, last = np.log(asset.first), np.log(asset.last or asset.first)
        trend = np.interp(np.arange(HORIZON), TREND, (first, last))
        steps = generator(self.seed, name, "anchors").standard_normal(HORIZON) * asset.volatility
        return np.asarray(trend + np.fromiter(accumulate(steps, lambda away, step: away * REVERSION + step), float))

    def _draw_knots(self, name: str) -> Floats:
        return generator(self.seed, name, "knots").standard_normal(KNOTS)


def _slices(day: int) -> Ints:
    """When each slice of the day begins."""
    return day * DAY + np.arange(SLICES) * SLICE
