"""Speed beside named peers, all in one run: `make bench`.

Everyone is asked for a few seconds, again and again in turn, so that a busy moment of the machine is everyone's; the
median counts. Exits with 1 when a target is missed.
"""

import sys
from collections.abc import Sequence
from statistics import median

import httpx

from loadtest import outcome, wrk
from loadtest.outcome import Bench, Row, Target
from loadtest.peers import BARE, DIRECT, OURS_STATIC, THROUGH, Peer, peers
from loadtest.watch import Watch
from tests import servers

SECONDS, ROUNDS = 1, 11
CONNECTIONS, MANY = 64, 512


def main() -> int:
    """Run it all."""
    try:
        with servers.private() as here, peers(here) as everyone:
            for peer in everyone:
                check(peer)
            ours = [peer for peer in everyone if peer.name in (DIRECT, THROUGH)]
            with Watch(ours[0].url) as watch:
                rows = measured(everyone, CONNECTIONS, ROUNDS) + measured(ours, MANY, 1)
    except servers.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    found = Bench(outcome.machine(), rows, judged(rows) + watch.targets())
    print(table(found))
    print(f"written to {outcome.write('bench', found)}; python -m loadtest.report draws it")
    return 0 if all(target.reached for target in found.targets) else 1


def check(peer: Peer) -> None:
    """Whoever answers something else than what is measured has no figure. Raises RuntimeError."""
    answer = httpx.get(peer.url, headers=dict(header.split(": ") for header in peer.headers))
    if answer.status_code != (304 if peer.unchanged else 200):
        raise RuntimeError(f"{peer.name} answers {answer.status_code}: {answer.text}")


def measured(everyone: Sequence[Peer], connections: int, rounds: int) -> list[Row]:
    """All peers in turn, several times."""
    found: dict[Peer, list[wrk.Measured]] = {peer: [] for peer in everyone}
    for number in range(rounds):
        print(f"{connections} connections, round {number + 1} of {rounds}", file=sys.stderr)
        for peer in everyone:
            found[peer].append(wrk.measure(peer.url, SECONDS, connections, *peer.headers))
    return [row(peer, connections, runs) for peer, runs in found.items()]


def row(peer: Peer, connections: int, runs: Sequence[wrk.Measured]) -> Row:
    """The median of the runs."""
    return Row(
        name=peer.name,
        unchanged=peer.unchanged,
        connections=connections,
        rates=[round(run.rate) for run in runs],
        rate=round(median(run.rate for run in runs)),
        p50_ms=round(median(run.p50_ms for run in runs), 2),
        p99_ms=round(median(run.p99_ms for run in runs), 2),
        failed=sum(run.statuses + run.sockets for run in runs),
    )


def judged(rows: Sequence[Row]) -> list[Target]:
    """The ratios that Kurs promises, each the median over the rounds, and that nobody was refused."""
    rates = {(row.name, row.unchanged): row.rates for row in rows if row.connections == CONNECTIONS}
    targets = []
    for name, beside, least in ((DIRECT, BARE, 0.9), (THROUGH, OURS_STATIC, 0.8)):
        for unchanged in (False, True):
            pairs = zip(rates[name, unchanged], rates[beside, unchanged], strict=True)
            ratio = round(median(ours / theirs for ours, theirs in pairs), 3)
            targets.append(Target(f"{name}{', 304' * unchanged} of {beside}", ratio, least=least))
    failed = sum(row.failed for row in rows)
    return [*targets, Target(f"failures, {CONNECTIONS} and {MANY} connections", failed, most=0)]


def table(found: Bench) -> str:
    """For a terminal."""
    lines = [f"{'':34}{'':8}{'connections':>11}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}"]
    lines += [
        f"{row.name:34}{'304' if row.unchanged else '200':8}{row.connections:11}{row.rate:12,.0f}"
        f"{row.p50_ms:9.2f}{row.p99_ms:9.2f}{row.failed:8}"
        for row in found.rows
    ]
    return "\n".join([*lines, "", *map(str, found.targets)])


if __name__ == "__main__":
    sys.exit(main())
