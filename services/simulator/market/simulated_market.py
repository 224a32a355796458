"""The market that all exchanges share: tapes by listing, index prices, and coins' prices in currencies."""

from functools import lru_cache
from math import exp

import numpy as np

from services.simulator.market.listings import MINUTE, SECOND, SimulatedListing
from services.simulator.market.price_model import PriceModel
from services.simulator.market.replay import ReplayTape
from services.simulator.market.shapes import Floats, Ints
from services.simulator.market.tape import RandomTape, Tape
from services.simulator.market.tape_quotes import mix_bits

INDEX_NOISE, FLICKER = 0.7e-4, 0.15e-4
REFERENCE_NOISE = 1e-4


class SimulatedMarket:
    """One market per seed; the same for every process."""

    def __init__(self, seed: int, replay: ReplayTape | None = None) -> None:
        self._replay = replay
        self.price_model = PriceModel(seed, {replay.listing.instrument.base: replay.price_lead()} if replay else None)
        self.tape = lru_cache(None)(self._tape)
        self._index = lru_cache(4096)(self._compute_index)

    def _tape(self, listing: SimulatedListing) -> Tape:
        if self._replay and self._replay.listing == listing:
            return self._replay
        return RandomTape(listing, self.price_model)

    def index(self, name: str, at: int) -> float:
        """Return Deribit's index (`btc_usd`), which moves a little every second."""
        return self._index(name, at // SECOND)

    def price_in(self, asset: str, currency: str, at: int) -> float:
        """Return CoinGecko's price of an asset."""
        return float(self.prices_in(asset, currency, np.array([at]))[0])

    def prices_in(self, asset: str, currency: str, times: Ints) -> Floats:
        """Return CoinGecko's prices of an asset at ascending times."""
        own = REFERENCE_NOISE * (asset != currency) * self.price_model.drift(f"reference {asset}", times, 10 * MINUTE)
        return np.asarray(
            np.exp(self.price_model.log_prices(asset, times) - self.price_model.log_prices(currency, times)) * (1 + own)
        )

    def _compute_index(self, name: str, second: int) -> float:
        base, quote = name.upper().split("_")
        at = second * SECOND
        flicker = mix_bits(second ^ mix_bits(stable_hash(name))) / 2**63 - 1
        own = float(self.price_model.drift(f"index {name}", np.array([at]), 10 * MINUTE)[0])
        cross = exp(self.price_model.log_price_at(base, at) - self.price_model.log_price_at(quote, at))
        return cross * (1 + INDEX_NOISE * own + FLICKER * flicker)


def stable_hash(name: str) -> int:
    """Return a number of a name, the same in every process."""
    return int.from_bytes(name.encode()[:16], "big")
