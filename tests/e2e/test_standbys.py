"""A second pricer, writer and analyst stand by and take over, again and again; who follows a stream does not notice."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

import httpx

from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from tests import expected_candles
from tests.e2e.test_candles_faults import expected_span, has_candles, now_ms, wait_until
from tests.servers import Server
from tests.system import System, second_process

ROLES = ("pricer", "writer", "analyst")
SERIES = [Series("binance", Instrument("BTC", "USDT"), name) for name in ("1m", "3m")]
CHANNELS = "btc_usd,courses,source_changed,candles:BTCUSDT:1m"
MAX_KILLED_SECONDS, MAX_HUNG_SECONDS = 20, 60  # on a busy machine


class StandbyPair:
    """The two processes of one role."""

    def __init__(self, role: str, *processes: Server) -> None:
        self.role, self.processes = role, processes

    def holders(self) -> list[Server]:
        """Who is at work."""
        return [process for process in self.processes if self._role_status(process) == ""]

    def _role_status(self, process: Server) -> str:
        try:
            parts = httpx.get(f"{process.url}/readyz", timeout=5).json()["parts"]
        except (httpx.HTTPError, ValueError, KeyError):  # it starts, hangs, or has just woken up
            return "does not answer"
        return str(parts[f"role {self.role}"]["detail"])

    def has_one_holder(self) -> tuple[Server, Server]:
        """The holder and the standby, once each is what it is."""
        deadline = time.monotonic() + 120
        while len(found := self.holders()) != 1 or not self._is_standby(found[0]):
            assert len(found) < 2, f"two are the {self.role}"
            assert time.monotonic() < deadline, f"nobody is the {self.role}: {self.processes[0].log()}"
            time.sleep(0.1)
        return found[0], next(process for process in self.processes if process is not found[0])

    def _is_standby(self, holder: Server) -> bool:
        other = next(process for process in self.processes if process is not holder)
        return self._role_status(other).startswith("stands by: process ")


@contextmanager
def follow_events(url: str) -> Iterator[list[str]]:
    """The names of all events of a stream while the block lasts."""
    names, over = list[str](), Event()

    def follow() -> None:
        query = {"channels": CHANNELS}
        with httpx.stream("GET", f"{url}/v1/stream", params=query, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                if over.is_set():
                    return

    thread = Thread(target=follow, daemon=True)
    thread.start()
    yield names
    over.set()
    thread.join(30)


def take_over(pair: StandbyPair, fail: Callable[[Server], object], recover: Callable[[Server], object]) -> float:
    """Seconds from the holder's failure to the standby's work; then the holder is back, and stands by."""
    holder, standby = pair.has_one_holder()
    fail(holder)
    seconds = seconds_until_taken(pair, standby)
    recover(holder)
    pair.has_one_holder()
    return seconds


def seconds_until_taken(pair: StandbyPair, taker: Server) -> float:
    begun = time.monotonic()
    while pair.holders() != [taker]:
        assert time.monotonic() - begun < MAX_HUNG_SECONDS, f"{pair.role}: {taker.log()}"
        time.sleep(0.05)
    return time.monotonic() - begun


MAX_RESETS = 10  # the channels that are followed, twice: more would be a storm


def test_the_other_one_takes_over(shared: System) -> None:
    wait_until(lambda: all(has_candles(shared, series) for series in SERIES), "a first candle")
    began = now_ms()
    with ExitStack() as stack:
        pairs = [StandbyPair(role, shared.processes[role], second_process(shared.processes[role])) for role in ROLES]
        for pair in pairs:
            stack.callback(pair.processes[1].stop)
            pair.processes[1].start()
        with follow_events(shared.url) as events:
            killed = {pair.role: take_over(pair, Server.kill, Server.start) for pair in pairs}
            wait_for_events(events)
            assert "reset" not in events
            hung = {pair.role: take_over(pair, Server.pause, Server.resume) for pair in pairs}
            wait_for_events(events)
            # one that hung may have given out numbers that nobody heard: its successor says so, once for each log
            assert events.count("reset") <= MAX_RESETS
    print(killed, hung)  # noqa: T201  shown when the test fails, and with -s
    assert max(killed.values()) < MAX_KILLED_SECONDS
    assert max(hung.values()) < MAX_HUNG_SECONDS
    over = TIMEFRAMES["1m"].close_time(TIMEFRAMES["1m"].open_time(now_ms()))
    wait_until(lambda: now_ms() > over, "end of the last minute")
    true = expected_candles.fetch_expected(
        shared.simulator, {series: expected_span(series, began, over) for series in SERIES}
    )
    wrong = list[expected_candles.Difference]()

    def well() -> bool:
        wrong[:] = expected_candles.differences(true, shared.url, shared.database)
        return not wrong

    wait_until(well, "candles as the exchange has them", wrong)


def wait_for_events(events: Sequence[str]) -> None:
    """The stream has more events, and left none out."""
    count = len(events)
    wait_until(lambda: len(events) > count + 10, "more events")
    assert "skipped" not in events
