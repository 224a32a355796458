"""The speed of Kurs and of other programs: `make bench`, or a part of it, `make bench ONLY=candles`.

Exits with 1 when a target is missed. A part is a module of this package with `main() -> int`: 0, 1 when a target was
missed, 2 when it could not run.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module


def run_part(name: str) -> int:
    """Run one part. Its module is imported here, because the peers' libraries would slow down the other parts."""
    return int(import_module(f"loadtest.bench_{name}").main())


NAMES = ("courses", "charts", "candles", "ticks", "indicators", "streams", "first")
PARTS: Mapping[str, Callable[[], int]] = {name: partial(run_part, name) for name in NAMES}


def main(names: Sequence[str], parts: Mapping[str, Callable[[], int]] = PARTS) -> int:
    """Run the named parts one after another, or all of them. Return the highest exit code."""
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
