"""Live streams beside their peers, in one run: `python -m loadtest.bench_streams`.

A message of 200 bytes, ten times a second, to a thousand and to five thousand sockets, and to a few while one of them
never reads. The server has one core, the audience another; all take turns, medians count. Latency runs from the moment
that a server begins with a message, which is in it, until a client has read it. For Kurs it begins with a candle that is
published on the bus, so that encoding it and finding its subscribers are part of it.
"""

import sys
from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from loadtest import outcome
from loadtest.fanout import cast
from loadtest.fanout.stage import Peer, Run, Show, performed
from loadtest.outcome import Target
from tests import servers

ROUNDS = 5
SECONDS = 3
THOUSAND, MANY = Show(1_000, 10, SECONDS), Show(5_000, 10, SECONDS)
CALM = Show(50, 500, 10)
STALLED = CALM._replace(stalled=1)
Runs = dict[Peer, list[Run]]


class Row(msgspec.Struct, frozen=True):
    """One peer in one show, the median of the rounds. `delivered`: the share of what was to be read in that time."""

    name: str
    sockets: int
    stalled: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    kb: float
    delivered: float
    rounds: int  # that came to an end


def main() -> int:
    """Run it all; 1 when a target is missed."""
    try:
        everyone = cast.cast()
        found = {show: taken(everyone, show, ROUNDS) for show in (THOUSAND, MANY)}
        readers = [peer for peer in everyone if peer.name in (cast.NODE, cast.BROADCAST, cast.KURS)]
        found |= {show: taken(readers, show, 3) for show in (CALM, STALLED)}
    except servers.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    rows = [row(peer, show, runs) for show, some in found.items() for peer, runs in some.items() if runs]
    reached = targets(found)
    print(table(rows), *reached, sep="\n")
    return 0 if all(target.reached for target in reached) else 1


def taken(everyone: Sequence[Peer], show: Show, rounds: int) -> Runs:
    """All peers in turn, several times."""
    found: Runs = {peer: [] for peer in everyone}
    for number in range(rounds):
        print(f"{show.sockets} sockets, {show.stalled} stalled, round {number + 1} of {rounds}", file=sys.stderr)
        for peer, runs in found.items():
            if run := performed(peer, show):
                runs.append(run)
    return found


def row(peer: Peer, show: Show, runs: Sequence[Run]) -> Row:
    """The medians."""
    expected = (show.sockets - show.stalled) * show.per_second * show.seconds

    def middle(figure: Callable[[Run], float], digits: int = 2) -> float:
        return round(median(map(figure, runs)), digits)

    return Row(
        name=peer.name,
        sockets=show.sockets,
        stalled=show.stalled,
        p50_ms=middle(lambda run: run.heard.p50_ms),
        p99_ms=middle(lambda run: run.heard.p99_ms),
        max_ms=middle(lambda run: run.heard.max_ms),
        cpu_us=middle(lambda run: run.cpu_us, 1),
        kb=middle(lambda run: run.kb, 1),
        delivered=middle(lambda run: run.heard.messages / expected),
        rounds=len(runs),
    )
