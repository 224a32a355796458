"""Kurs and other HTTP servers, while rates change: `make bench ONLY=courses`."""

import sys
from collections.abc import Sequence

from loadtest import results
from loadtest.peers import BARE, DIRECT, OURS_STATIC, THROUGH, run_peers
from loadtest.rate_probe import RateProbe
from loadtest.results import PeerBench, PeerResult, Target
from loadtest.rounds import check, measure_rounds, ratio, table
from tests import servers

ROUNDS = 11
CONNECTIONS, MANY = 64, 512


def main() -> int:
    """Run the benchmark. Return 1 when a target is missed."""
    try:
        with servers.private_servers() as private, run_peers(private) as all_peers:
            for peer in all_peers:
                check(peer)
            ours = [peer for peer in all_peers if peer.name in (DIRECT, THROUGH)]
            with RateProbe(ours[0].url) as probe:
                rows = measure_rounds(all_peers, CONNECTIONS, ROUNDS) + measure_rounds(ours, MANY, 1)
    except servers.NotInstalled as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    found = PeerBench(results.machine_info(), rows, rate_targets(rows) + probe.targets())
    print(table(found))
    return results.save_and_exit_code("courses", found)


def rate_targets(rows: Sequence[PeerResult]) -> list[Target]:
    """Return the targets: ratios, each the median over the rounds, and no failed request."""
    some, targets = [row for row in rows if row.connections == CONNECTIONS], list[Target]()
    for name, beside, at_least in ((DIRECT, BARE, 0.9), (THROUGH, OURS_STATIC, 0.8)):
        for unchanged in (False, True):
            value = ratio(some, name, beside, unchanged)
            targets.append(Target(f"{name}{', 304' * unchanged} of {beside}", value, at_least=at_least))
    failed = sum(row.failed for row in rows)
    return [*targets, Target(f"failures, {CONNECTIONS} and {MANY} connections", failed, at_most=0)]


if __name__ == "__main__":
    sys.exit(main())
