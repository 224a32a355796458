"""Live streams of Kurs and of other servers, in one run: `make bench ONLY=streams`.

A message of 200 bytes, ten times a second, to a thousand and to five thousand sockets, and to a few while one of them
never reads. The server has one core, the clients another. The servers are measured in turn; the figures are medians.
A message contains the time at which its server began with it; its latency is what has passed when a client has read
it. Kurs begins with a candle, so that the journal, the bus and the encoding are part of its latency.
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
    """Run the benchmark. Return 1 when a target is missed."""
    try:
        all_peers = fanout_peers.fanout_peers()
        runs = {scenario: measure_all(all_peers, scenario, ROUNDS) for scenario in (THOUSAND, MANY)}
        names = fanout_peers.NODE, fanout_peers.BROADCAST, fanout_peers.KURS
        some_peers = [peer for peer in all_peers if peer.name in names]
        runs |= {scenario: measure_all(some_peers, scenario, ROUNDS) for scenario in (CALM, STALLED)}
        with servers.private_servers() as private:
            rates, candles = (
                end_to_end.measure_end_to_end(private, kind) for kind in (end_to_end.RATES, end_to_end.CANDLES)
            )
    except servers.NotInstalled as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    rows = [row(name, scenario, some) for scenario, by_name in runs.items() for name, some in by_name.items()]
    targets, aims = [*fanout_targets(runs), *quote_targets(rates)], [*fanout_aims(runs), *candle_aims(candles)]
    print(table(rows), *targets, *(f"aim: {aim}" for aim in aims), sep="\n")
    return results.save_and_exit_code("streams", StreamBench(results.machine_info(), rows, targets, aims))


def measure_all(all_peers: Sequence[FanoutPeer], scenario: FanoutScenario, rounds: int) -> Runs:
    """Measure all peers in turn, `rounds` times."""
    runs: Runs = {peer.name: [] for peer in all_peers}
    for number in range(rounds):
        print(
            f"{scenario.sockets} sockets, {scenario.stalled} stalled, round {number + 1} of {rounds}", file=sys.stderr
        )
        for peer in all_peers:
            runs[peer.name].append(run_scenario(peer, scenario))
    return runs


def row(name: str, scenario: FanoutScenario, runs: Sequence[FanoutRun]) -> FanoutResult:
    """Return the medians of the runs."""
    expected = (scenario.sockets - scenario.stalled) * scenario.per_second * scenario.seconds

    return FanoutResult(
        name=name,
        sockets=scenario.sockets,
        stalled=scenario.stalled,
        p50_ms=median_of(runs, lambda run: run.received.p50_ms),
        p99_ms=median_of(runs, p99_ms),
        max_ms=median_of(runs, lambda run: run.received.max_ms),
        cpu_us=median_of(runs, lambda run: run.cpu_us, 1),
        kb=median_of(runs, lambda run: run.kb, 1),
        delivered=median_of(runs, lambda run: run.received.messages / expected),
    )


def fanout_targets(runs: Mapping[FanoutScenario, Runs]) -> list[Target]:
    """Return the targets of these runs."""
    ours, theirs = runs[MANY][fanout_peers.KURS], runs[MANY][fanout_peers.NODE]
    calm, stalled = runs[CALM][fanout_peers.KURS], runs[STALLED][fanout_peers.KURS]
    return [
        Target(f"p99 at {MANY.sockets:,}, of {fanout_peers.NODE}", ratio(ours, theirs, p99_ms), at_most=1),
        Target("kB per connection", median_of(ours, lambda run: run.kb), at_most=30),
        Target("p99 beside one that never reads, of that without", ratio(stalled, calm, p99_ms), at_most=1.25),
        Target(
            "kB for the one that never reads", median_of(stalled, grown_kb) - median_of(calm, grown_kb), at_most=500
        ),
    ]


def quote_targets(received: ReceivedStats) -> list[Target]:
    """Return the targets of a quote's way from the exchange's frame to a client, over RabbitMQ."""
    deliveries = end_to_end.MESSAGES_PER_SECOND * end_to_end.SOCKETS / end_to_end.SYMBOLS * received.seconds
    return [
        Target("quotes that arrive as rates, of all", round(received.messages / deliveries, 3), at_least=0.99),
        Target("from the exchange's frame to a client, p50 ms", received.p50_ms, at_most=5),
        Target("from the exchange's frame to a client, p99 ms", received.p99_ms, at_most=50),
    ]


def candle_aims(received: ReceivedStats) -> list[Target]:
    """Return the aims of a trade's way to a client, through the writer's commit.

    How many messages arrive is no target: the more trades a commit contains, the fewer forming candles are published.
    """
    return [
        Target("from a trade's frame, through the commit, p50 ms", received.p50_ms, at_most=50),
        Target("from a trade's frame, through the commit, p99 ms", received.p99_ms, at_most=250),
    ]


def fanout_aims(runs: Mapping[FanoutScenario, Runs]) -> list[Target]:
    """Return the targets that are not required."""
    ours, theirs = runs[MANY][fanout_peers.KURS], runs[MANY][fanout_peers.FLOOR]
    return [Target(f"p99 at {MANY.sockets:,}, of {fanout_peers.FLOOR}", ratio(ours, theirs, p99_ms), at_most=1.35)]


def ratio(ours: Sequence[FanoutRun], theirs: Sequence[FanoutRun], figure: Figure) -> float:
    """Return the median over the rounds of the ratio of a figure."""
    return round(median(figure(one) / figure(other) for one, other in zip(ours, theirs, strict=True)), 3)


def median_of(runs: Sequence[FanoutRun], figure: Figure, digits: int = 2) -> float:
    """Return the median of a figure over the rounds."""
    return round(median(map(figure, runs)), digits)


def p99_ms(run: FanoutRun) -> float:
    """Return the 99th percentile of the latency in ms."""
    return run.received.p99_ms


def grown_kb(run: FanoutRun) -> float:
    """Return by how many kB the server grew while it was measured."""
    return run.grown_kb


def table(rows: Sequence[FanoutResult]) -> str:
    """Format the rows for a terminal."""
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
