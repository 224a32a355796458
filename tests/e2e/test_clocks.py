"""Wall clocks that are wrong, and are set while Kurs runs."""

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import servers
from tests.conftest import installed
from tests.e2e.test_faults import eventually
from tests.shifted_clock import ShiftedClock
from tests.system import QUICK, kurs, split, whole

HOUR, DAY = 3600, 86_400
ENV = {**QUICK, "KURS_HISTORY_BARS": "0", "KURS_REFERENCE_PRICE_SECONDS": "8"}


def test_a_process_reports_that_its_clock_was_set(tmp_path: Path) -> None:
    clock = installed(lambda: ShiftedClock(tmp_path / "clock", 3600))
    process = kurs(tmp_path, "simulator", **clock.env)
    try:
        process.start()
        clock.set(-86400)
        time.sleep(2)
        metrics = httpx.get(f"{process.url}/metrics").text
    finally:
        process.stop()
    assert process.log().count("this machine's clock was set back by 90000.0 s") == 1
    assert "kurs_clock_steps_total 1.0" in metrics
    (offset,) = re.findall(r"^kurs_clock_offset_seconds (.*)$", metrics, re.MULTILINE)
    assert float(offset) == pytest.approx(-90_000, abs=1)


def answer(url: str, path: str = "/v2/courses?direction=BTC-USD") -> dict[str, Any]:
    """The body of an answer, whatever its status; of none nothing."""
    try:
        body: dict[str, Any] = httpx.get(f"{url}{path}", timeout=5).json()
    except httpx.HTTPError:
        return {}
    return body


def moves(url: str, clock: ShiftedClock) -> bool:
    """Whether Binance's price changes within a second, and is new by that clock."""
    first = received(url)
    time.sleep(1)
    second = received(url)
    return first is not None and second is not None and second > first and abs(second - time.time() - clock.seconds) < 9


def received(url: str) -> float | None:
    """When Binance's own price in the answer was received; None: the answer is not Binance's."""
    body = answer(url)
    return body["courses"][0]["legs"][0]["received"] / 1000 if body.get("exchanger") == "binance" else None


def test_one_process_goes_on_when_its_clock_is_set_and_after_a_restart_with_rates_of_the_future(tmp_path: Path) -> None:
    clock = installed(lambda: ShiftedClock(tmp_path / "clock"))
    with whole(tmp_path, ENV, clock) as system:
        eventually(lambda: moves(system.url, clock), "prices that move")
        for ahead in (-HOUR, DAY):
            clock.set(ahead)
            eventually(lambda: moves(system.url, clock), f"prices that move with a clock {ahead} s ahead")
        time.sleep(2)  # rates of tomorrow are kept
        system.processes["kurs"].stop()
        clock.set(0)
        system.processes["kurs"].start()
        eventually(lambda: moves(system.url, clock), "prices that move after the restart")


def test_a_pricer_whose_clock_is_wrong_is_not_believed_and_its_replicas_say_so(
    tmp_path: Path, private: servers.Private
) -> None:
    clock = installed(lambda: ShiftedClock(tmp_path / "clock"))
    with split(tmp_path, private, ENV, {"pricer": clock}) as system:
        eventually(lambda: moves(system.url, clock), "prices that move")
        clock.set(-HOUR)
        eventually(lambda: "clock: the pricer's stamps are 36" in answer(system.url).get("detail", ""), "a refusal")
        in_use = answer(system.processes["api 1"].url, "/v1/exchanges")["in_use"]
        assert in_use["exchange"] is None or in_use["exchange"] == "coingecko"
        assert "clock: the pricer's stamps are 36" in in_use["pricer"]["reason"]
        assert in_use["pricer"]["age_ms"] > 3_000  # its choice is a second older or younger than what it chose from
        clock.set(0)
        eventually(lambda: moves(system.url, clock), "prices that move again")
