"""Measures HTTP peers in turn, in several rounds, so that other load on the machine affects all of them."""

import sys
from collections.abc import Sequence
from statistics import median

import httpx

from loadtest import wrk
from loadtest.peers import HttpPeer
from loadtest.results import PeerBench, PeerResult

RUN_SECONDS = 1  # of a round, for each peer


def check(peer: HttpPeer) -> None:
    """Check that a peer responds with what is to be measured. Raises RuntimeError."""
    response = httpx.get(peer.url, headers=dict(header.split(": ") for header in peer.headers))
    if response.status_code != (304 if peer.unchanged else 200):
        raise RuntimeError(f"{peer.name} responds {response.status_code}: {response.text}")


def measure_rounds(peers: Sequence[HttpPeer], connections: int, rounds: int) -> list[PeerResult]:
    """Measure all peers in turn, `rounds` times."""
    runs: dict[HttpPeer, list[wrk.WrkResult]] = {peer: [] for peer in peers}
    for number in range(rounds):
        print(f"{connections} connections, round {number + 1} of {rounds}", file=sys.stderr)
        for peer in peers:
            runs[peer].append(wrk.measure(peer.url, RUN_SECONDS, connections, *peer.headers))
    return [row(peer, connections, some) for peer, some in runs.items()]


def row(peer: HttpPeer, connections: int, runs: Sequence[wrk.WrkResult]) -> PeerResult:
    """Return the medians of the runs."""
    return PeerResult(
        name=peer.name,
        unchanged=peer.unchanged,
        connections=connections,
        rates=[round(run.rate) for run in runs],
        rate=round(median(run.rate for run in runs)),
        p50_ms=round(median(run.p50_ms for run in runs), 2),
        p99_ms=round(median(run.p99_ms for run in runs), 2),
        failed=sum(run.statuses + run.sockets for run in runs),
    )


def ratio(rows: Sequence[PeerResult], name: str, beside: str, unchanged: bool = False) -> float:
    """Return the median over the rounds of the ratio of two peers' responses a second."""
    ours, theirs = (next(r for r in rows if (r.name, r.unchanged) == (each, unchanged)) for each in (name, beside))
    return round(median(one / other for one, other in zip(ours.rates, theirs.rates, strict=True)), 3)


def table(result: PeerBench) -> str:
    """Format the rows and targets for a terminal."""
    lines = [f"{'':34}{'':8}{'connections':>11}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}"]
    lines += [
        f"{row.name:34}{'304' if row.unchanged else '200':8}{row.connections:11}{row.rate:12,.0f}"
        f"{row.p50_ms:9.2f}{row.p99_ms:9.2f}{row.failed:8}"
        for row in result.rows
    ]
    return "\n".join([*lines, "", *map(str, result.targets)])
