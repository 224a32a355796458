"""The market as exchanges see it: tapes by listing, index prices, and what a coin is worth in a currency."""

from functools import lru_cache
from math import exp

import numpy as np

from services.simulator.market.listings import MINUTE, SECOND, Listing
from services.simulator.market.price_model import Paths
from services.simulator.market.replay import ReplayTape
from services.simulator.market.shapes import Floats, Ints
from services.simulator.market.tape import RandomTape, Tape
from services.simulator.market.tape_quotes import mix

INDEX_NOISE, FLICKER = 0.7e-4, 0.15e-4
REFERENCE_NOISE = 1e-4


class Market:
    """One market per seed; the same for every process."""

    def __init__(self, seed: int, replay: ReplayTape | None = None) -> None:
        self._replay = replay
        self.paths = Paths(seed, {replay.listing.instrument.base: replay.lead()} if replay else None)
        self.tape = lru_cache(None)(self._tape)
        self._index = lru_cache(4096)(self._indexed)

    def _tape(self, listing: Listing) -> Tape:
        if self._replay and self._replay.listing == listing:
            return self._replay
        return RandomTape(listing, self.paths)

    def index(self, name: str, at: int) -> float:
        """Deribit's index (`btc_usd`): it moves a little every second."""
        return self._index(name, at // SECOND)

    def worth(self, asset: str, currency: str, at: int) -> float:
        """What CoinGecko says one coin is worth."""
        return float(self.worths(asset, currency, np.array([at]))[0])

    def worths(self, asset: str, currency: str, times: Ints) -> Floats:
        """The same at ascending times."""
        own = REFERENCE_NOISE * (asset != currency) * self.paths.wander(f"reference {asset}", times, 10 * MINUTE)
        return np.asarray(np.exp(self.paths.logs(asset, times) - self.paths.logs(currency, times)) * (1 + own))

    def _indexed(self, name: str, second: int) -> float:
        base, quote = name.upper().split("_")
        at = second * SECOND
        flicker = mix(second ^ mix(hash_of(name))) / 2**63 - 1
        own = float(self.paths.wander(f"index {name}", np.array([at]), 10 * MINUTE)[0])
        cross = exp(self.paths.at(base, at) - self.paths.at(quote, at))
        return cross * (1 + INDEX_NOISE * own + FLICKER * flicker)


def hash_of(name: str) -> int:
    """A number of a name, the same in every process."""
    return int.from_bytes(name.encode()[:16], "big")
