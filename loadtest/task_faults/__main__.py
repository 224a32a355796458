"""Thousands of tasks while their workers are killed and their broker restarts: `make tasks`.

Exits with 1 when a task did not end exactly once, in `succeeded` or `failed`.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.task_faults.task_run import TaskPlace, TaskPlan, TaskRunResult, run_plan
from loadtest.task_faults.worker import TIMING
from services import log
from tests import servers


def main() -> int:
    """Run both modes, then the poisons in both."""
    parser = argparse.ArgumentParser(prog="make tasks", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=10_000)
    args = parser.parse_args()
    log.setup("WARNING", {}, stream=sys.stderr)
    poisons = TaskPlan(args.seed, 200, poisons=("hang", "block", "die"), kills=False)
    results = list[TaskRunResult]()
    for mode in ("split", "one process"):
        for plan in (TaskPlan(args.seed, args.tasks), poisons):
            try:
                with place(mode) as where:
                    results.append(run_plan(where, plan))
            except servers.NotInstalled as missing:
                print(f"tasks: {missing}", file=sys.stderr)
                return 2
            print(f"{mode}: {describe(results[-1])}", flush=True)
    return 0 if all(result.is_good for result in results) else 1


@contextmanager
def place(mode: str) -> Iterator[TaskPlace]:
    """Servers for one run."""
    with servers.private_servers() as here:
        if mode == "split":
            broker = here.rabbit
            yield TaskPlace(here.folder, here.postgres.create_database(), broker.create_vhost(), broker)
        else:
            yield TaskPlace(here.folder, f"sqlite+aiosqlite:///{here.folder / 'kurs.db'}")


def describe(result: TaskRunResult) -> str:
    """Return a result as text."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    attempts = ", ".join(f"{count} in {number}" for number, count in sorted(result.attempts.items()))
    lines = [
        f"{result.tasks} tasks in {result.seconds:.0f} s: {states}; attempts: {attempts}",
        f"  {result.kills} workers killed, {result.restarts} restarts of the broker",
        f"  longest time of a harmless task: {result.worst_seconds:.1f} s (a lease is {TIMING.lease:.0f} s)",
        *(f"  WRONG {text}" for text in result.wrong),
        *(f"  ENDED MORE THAN ONCE {task_id}" for task_id in result.doubled),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
