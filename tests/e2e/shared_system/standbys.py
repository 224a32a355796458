"""Two processes of each role, one at work and one standby, and a client that follows their streams."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event, Thread

import httpx

from tests.servers import Server
from tests.system import System, second_process
from tests.waiting import wait_until

ROLES = ("pricer", "writer", "analyst")
CHANNELS = "btc_usd,courses,source_changed,candles:BTCUSDT:1m"
TAKEOVER_DEADLINE_SECONDS = 120
Action = Callable[[Server], object]


class StandbyPair:
    """The two processes of one role."""

    def __init__(self, role: str, *processes: Server) -> None:
        self.role, self.processes = role, processes

    def holders(self) -> list[Server]:
        """Return the processes that work."""
        return [process for process in self.processes if self._role_status(process) == ""]

    def _role_status(self, process: Server) -> str:
        try:
            parts = httpx.get(f"{process.url}/readyz", timeout=5).json()["parts"]
        except (httpx.HTTPError, ValueError, KeyError):  # it starts, hangs, or was just resumed
            return "does not respond"
        return str(parts[f"role {self.role}"]["detail"])

    def holder_and_standby(self) -> tuple[Server, Server]:
        """Wait until one process works and the other stands by, and return them. Fails when both work."""
        found = list[Server]()

        def is_settled() -> bool:
            found[:] = self.holders()
            assert len(found) < 2, f"two processes are the {self.role}"
            return bool(found) and self._is_standby(self._other(found[0]))

        wait_until(is_settled, f"process that is the {self.role}", 180, details=self.processes[0].log)
        return found[0], self._other(found[0])

    def _other(self, process: Server) -> Server:
        return next(other for other in self.processes if other is not process)

    def _is_standby(self, process: Server) -> bool:
        return self._role_status(process).startswith("stands by: process ")

    def take_over(self, fail: Action, recover: Action) -> float:
        """Return the seconds from the failure of the holder until the standby works. Then they have changed places."""
        holder, standby = self.holder_and_standby()
        fail(holder)
        what = f"takeover of the {self.role}"
        seconds = wait_until(lambda: self.holders() == [standby], what, TAKEOVER_DEADLINE_SECONDS, details=standby.log)
        recover(holder)
        self.holder_and_standby()
        return seconds


@contextmanager
def run_standbys(system: System) -> Iterator[list[StandbyPair]]:
    """Run a second process of each role beside those of the system until the block ends."""
    with ExitStack() as stack:
        pairs = [StandbyPair(role, system.processes[role], second_process(system.processes[role])) for role in ROLES]
        for pair in pairs:
            stack.callback(pair.processes[1].stop)
            pair.processes[1].launch()
        yield pairs


def take_over_all(pairs: Sequence[StandbyPair], fail: Action, recover: Action) -> dict[str, float]:
    """Let the holders of all roles fail at the same time. Return the seconds of each takeover."""
    with ThreadPoolExecutor() as pool:
        seconds = pool.map(partial(StandbyPair.take_over, fail=fail, recover=recover), pairs)
        return {pair.role: taken for pair, taken in zip(pairs, seconds, strict=True)}


@contextmanager
def follow_events(url: str) -> Iterator[list[str]]:
    """Yield the names of a stream's events, in a list that grows until the block ends."""
    names, over = list[str](), Event()

    def follow() -> None:
        with httpx.stream("GET", f"{url}/v1/stream", params={"channels": CHANNELS}, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                if over.is_set():
                    return

    thread = Thread(target=follow, daemon=True)
    thread.start()
    yield names
    over.set()
    thread.join(30)


def wait_for_events(events: Sequence[str]) -> None:
    """Wait for ten more events of a stream that skipped none."""
    count = len(events)
    wait_until(lambda: len(events) > count + 10, "more events")
    assert "skipped" not in events
