"""Live streams beside their peers, in one run: `make bench ONLY=streams`.

A message of 200 bytes, ten times a second, to a thousand and to five thousand sockets, and to a few while one of them
never reads. The server has one core, the clients another; all take turns, medians count. Latency runs from the moment
that a server begins with a message, which is in it, until a client has read it. Kurs begins with a candle: that it is
noted in the journal, passes the bus and is written out is part of the figure.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from loadtest import results
from loadtest.fanout import end_to_end, fanout_peers
from loadtest.fanout.load_client import ReceivedStats
from loadtest.fanout.runner import FanoutPeer, FanoutRun, FanoutScenario, run_scenario
from loadtest.results import FanoutResult, StreamBench, Target
from tests import servers

ROUNDS = 3
SCENARIO_SECONDS = 3
THOUSAND, MANY = FanoutScenario(1_000, 10, SCENARIO_SECONDS), FanoutScenario(5_000, 10, SCENARIO_SECONDS)
CALM = FanoutScenario(50, 500, 8)
STALLED = CALM._replace(stalled=1)
Runs = dict[str, list[FanoutRun]]  # by the peer's name
Figure = Callable[[FanoutRun], float]


def main() -> int:
    """Run it all; 1 when a target is missed."""
    try:
        everyone = fanout_peers.fanout_peers()
        found = {show: measure_all(everyone, show, ROUNDS) for show in (THOUSAND, MANY)}
        readers = [
            peer for peer in everyone if peer.name in (fanout_peers.NODE, fanout_peers.BROADCAST, fanout_peers.KURS)
        ]
        found |= {show: measure_all(readers, show, ROUNDS) for show in (CALM, STALLED)}
        with servers.private_servers() as here:
            rates, candles = (
                end_to_end.measure_end_to_end(here, kind) for kind in (end_to_end.RATES, end_to_end.CANDLES)
            )
    except servers.NotInstalled as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    rows = [row(name, show, runs) for show, some in found.items() for name, runs in some.items()]
    reached, wished = [*targets(found), *quote_targets(rates)], [*aims(found), *candle_targets(candles)]
    print(table(rows), *reached, *(f"aim: {aim}" for aim in wished), sep="\n")
    return results.save_and_exit_code("streams", StreamBench(results.machine_info(), rows, reached, wished))


def measure_all(everyone: Sequence[FanoutPeer], show: FanoutScenario, rounds: int) -> Runs:
    """All peers in turn, several times."""
    found: Runs = {peer.name: [] for peer in everyone}
    for number in range(rounds):
        print(f"{show.sockets} sockets, {show.stalled} stalled, round {number + 1} of {rounds}", file=sys.stderr)
        for peer in everyone:
            found[peer.name].append(run_scenario(peer, show))
    return found


def row(name: str, show: FanoutScenario, runs: Sequence[FanoutRun]) -> FanoutResult:
    """The medians."""
    expected = (show.sockets - show.stalled) * show.per_second * show.seconds

    return FanoutResult(
        name=name,
        sockets=show.sockets,
        stalled=show.stalled,
        p50_ms=median_of(runs, lambda run: run.received.p50_ms),
        p99_ms=median_of(runs, p99_ms),
        max_ms=median_of(runs, lambda run: run.received.max_ms),
        cpu_us=median_of(runs, lambda run: run.cpu_us, 1),
        kb=median_of(runs, lambda run: run.kb, 1),
        delivered=median_of(runs, lambda run: run.received.messages / expected),
    )


def targets(found: Mapping[FanoutScenario, Runs]) -> list[Target]:
    """What Kurs promises."""
    ours, theirs = found[MANY][fanout_peers.KURS], found[MANY][fanout_peers.NODE]
    calm, stalled = found[CALM][fanout_peers.KURS], found[STALLED][fanout_peers.KURS]
    return [
        Target(f"p99 at {MANY.sockets:,}, of {fanout_peers.NODE}", ratio(ours, theirs, p99_ms), most=1),
        Target("kB per connection", median_of(ours, lambda run: run.kb), most=30),
        Target("p99 beside one that never reads, of that without", ratio(stalled, calm, p99_ms), most=1.25),
        Target("kB for the one that never reads", median_of(stalled, grown_kb) - median_of(calm, grown_kb), most=500),
    ]


def quote_targets(received: ReceivedStats) -> list[Target]:
    """A quote's way from the exchange's frame to a client, over RabbitMQ."""
    deliveries = end_to_end.MESSAGES_PER_SECOND * end_to_end.SOCKETS / end_to_end.SYMBOLS * received.seconds
    return [
        Target("quotes that arrive as rates, of all", round(received.messages / deliveries, 3), least=0.99),
        Target("from the exchange's frame to a client, p50 ms", received.p50_ms, most=5),
        Target("from the exchange's frame to a client, p99 ms", received.p99_ms, most=50),
    ]


def candle_targets(received: ReceivedStats) -> list[Target]:
    """A trade's way to a client, through the writer's commit. Committing more at once publishes fewer forms."""
    return [
        Target("from a trade's frame, through the commit, p50 ms", received.p50_ms, most=50),
        Target("from a trade's frame, through the commit, p99 ms", received.p99_ms, most=250),
    ]


def aims(found: Mapping[FanoutScenario, Runs]) -> list[Target]:
    """What Kurs would like to reach."""
    ours, theirs = found[MANY][fanout_peers.KURS], found[MANY][fanout_peers.FLOOR]
    return [Target(f"p99 at {MANY.sockets:,}, of {fanout_peers.FLOOR}", ratio(ours, theirs, p99_ms), most=1.35)]


def ratio(ours: Sequence[FanoutRun], theirs: Sequence[FanoutRun], figure: Figure) -> float:
    """The median of the rounds'."""
    return round(median(figure(one) / figure(other) for one, other in zip(ours, theirs, strict=True)), 3)


def median_of(runs: Sequence[FanoutRun], figure: Figure, digits: int = 2) -> float:
    """The median of the rounds."""
    return round(median(map(figure, runs)), digits)


def p99_ms(run: FanoutRun) -> float:
    """In ms."""
    return run.received.p99_ms


def grown_kb(run: FanoutRun) -> float:
    """In kB, while it was measured."""
    return run.grown_kb


def table(rows: Sequence[FanoutResult]) -> str:
    """For a terminal."""
    heads = ("sockets", "stalled", "p50 ms", "p99 ms", "max ms", "CPU µs", "kB", "read")
    lines = [f"{'':38}" + "".join(f"{head:>10}" for head in heads)]
    lines += [
        f"{row.name:38}{row.sockets:10,}{row.stalled:10}{row.p50_ms:10.2f}{row.p99_ms:10.2f}{row.max_ms:10.2f}"
        f"{row.cpu_us:10.1f}{row.kb:10.1f}{row.delivered:10.0%}"
        for row in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
