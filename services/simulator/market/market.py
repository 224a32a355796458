"""The market as exchanges see it: tapes by listing, index prices, and what a coin is worth in a currency."""

from functools import lru_cache
from math import exp

import numpy as np

from services.simulator.market.listings import MINUTE, SECOND, Listing
from services.simulator.market.paths import Paths
from services.simulator.market.quotes import mix
from services.simulator.market.replay import ReplayTape
from services.simulator.market.tape import RandomTape, Tape

INDEX_NOISE, FLICKER = 0.7e-4, 0.15e-4
REFERENCE_NOISE = 1e-4


class Market:
    """One market per seed; the same for every process."""

    def __init__(self, seed: int, replay: ReplayTape | None = None) -> None:
        self._replay = replay
        self.paths = Paths(seed, {replay.listing.instrument.base: replay.lead()} if replay else None)
        self.tape = lru_cache(None)(self._tape)

    def _tape(self, listing: Listing) -> Tape:
        if self._replay and self._replay.listing == listing:
            return self._replay
        return RandomTape(listing, self.paths)

    def index(self, name: str, at: int) -> float:
        """Deribit's index (`btc_usd`): it moves a little every second."""
        base, quote = name.upper().split("_")
        second = at // SECOND
        flicker = mix(second ^ mix(hash_of(name))) / 2**63 - 1
        own = self.paths.wander(f"index {name}", np.array([at]), 10 * MINUTE)[0]
        return self._cross(base, quote, at) * (1 + INDEX_NOISE * float(own) + FLICKER * flicker)

    def worth(self, asset: str, currency: str, at: int) -> float:
        """What CoinGecko says one coin is worth."""
        own = self.paths.wander(f"reference {asset}", np.array([at]), 10 * MINUTE)[0]
        return self._cross(asset, currency, at) * (1 + REFERENCE_NOISE * float(own) * (asset != currency))

    def _cross(self, base: str, quote: str, at: int) -> float:
        return exp(self.paths.at(base, at) - self.paths.at(quote, at))


def hash_of(name: str) -> int:
    """A number of a name, the same in every process."""
    return int.from_bytes(name.encode()[:16], "big")
