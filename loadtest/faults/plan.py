"""What will go wrong and when: the same seed gives the same plan."""

from collections.abc import Sequence
from itertools import chain, repeat
from random import Random
from typing import NamedTuple

PACE = 9  # seconds from one fault to the next, on average
PROCESSES = ("collector binance", "collector deribit", "collector coingecko", "pricer", "writer", "analyst", "api")
SERVERS = ("rabbit", "redis", "postgres")
REPLICAS = ("api 1", "api 2")
STOPPED = 20  # seconds between SIGSTOP and SIGCONT
ENDS = {"SIGKILL": (0, 0), "SIGSTOP": (STOPPED, STOPPED), "restart": (0, 0)}
LINES = {
    "drop": (0, 0),
    "kill": (2, 20),
    "mute": (5, 20),
    "garbage": (2, 20),
    "shutdown": (0, 0),
    "duplicate": (5, 30),
    "reorder": (5, 30),
}
POLLED = ("kill", "mute", "garbage")  # what can happen to an exchange that has no sockets


class Fault(NamedTuple):
    """One fault: `at` seconds after the start, for so many seconds; 0: over as soon as it has happened."""

    at: float
    target: str
    kind: str
    seconds: float

    @property
    def on_wire(self) -> bool:
        """Whether it happens to an exchange's connection, not to a process."""
        return self.kind in LINES


Card = tuple[str, str]  # target and kind


def deck() -> list[Card]:
    """Every fault that there is, once."""
    ours = [(target, kind) for target in (*PROCESSES, *SERVERS) for kind in ENDS]
    sockets = [(exchange, kind) for exchange in ("binance", "deribit") for kind in LINES]
    return [*ours, *sockets, *(("coingecko", kind) for kind in POLLED)]


def plan(seed: int, count: int) -> Sequence[Fault]:
    """That many faults, none of them twice more often than another, in the order of their moments."""
    chance, cards = Random(seed), deck()
    shuffled = chain.from_iterable(chance.sample(cards, len(cards)) for _ in repeat(None))
    moments = sorted(chance.uniform(0, count * PACE) for _ in range(count))
    return [_fault(chance, at, *card) for at, card in zip(moments, shuffled, strict=False)]


def _fault(chance: Random, at: float, target: str, kind: str) -> Fault:
    seconds = chance.uniform(*(ENDS | LINES)[kind])
    return Fault(at, chance.choice(REPLICAS) if target == "api" else target, kind, seconds)
