"""Speed beside named peers: `make bench`, or a part of it, `make bench ONLY=candles`.

Exits with 1 when a target is missed. A part is a module of this package with `main() -> int`: 0, 1 when a target was
missed, 2 when it could not run.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module


def run_part(name: str) -> int:
    """One part. It is loaded only now: what a peer brings along is no burden to the others."""
    return int(import_module(f"loadtest.bench_{name}").main())


NAMES = ("courses", "charts", "candles", "ticks", "indicators", "streams", "first")
PARTS: Mapping[str, Callable[[], int]] = {name: partial(run_part, name) for name in NAMES}


def main(names: Sequence[str], parts: Mapping[str, Callable[[], int]] = PARTS) -> int:
    """Run these parts, one after another; without names all. Answers the worst exit code."""
    if unknown := [name for name in names if name not in parts]:
        print(f"bench: there is no part {unknown[0]!r}; there are: {', '.join(parts)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or parts:
        print(f"\n=== {name}")
        worst = max(worst, parts[name]())
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
