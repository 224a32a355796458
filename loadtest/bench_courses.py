"""Courses beside named peers, while rates change: `make bench ONLY=courses`."""

import sys
from collections.abc import Sequence

from loadtest import results
from loadtest.peers import BARE, DIRECT, OURS_STATIC, THROUGH, peers
from loadtest.rate_probe import Watch
from loadtest.results import Bench, Row, Target
from loadtest.rounds import check, measured, ratio, table
from tests import servers

ROUNDS = 11
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
    found = Bench(results.machine(), rows, judged(rows) + watch.targets())
    print(table(found))
    return results.told("courses", found)


def judged(rows: Sequence[Row]) -> list[Target]:
    """The ratios that Kurs promises, each the median over the rounds, and that nobody was refused."""
    some, targets = [row for row in rows if row.connections == CONNECTIONS], list[Target]()
    for name, beside, least in ((DIRECT, BARE, 0.9), (THROUGH, OURS_STATIC, 0.8)):
        for unchanged in (False, True):
            value = ratio(some, name, beside, unchanged)
            targets.append(Target(f"{name}{', 304' * unchanged} of {beside}", value, least=least))
    failed = sum(row.failed for row in rows)
    return [*targets, Target(f"failures, {CONNECTIONS} and {MANY} connections", failed, most=0)]


if __name__ == "__main__":
    sys.exit(main())
