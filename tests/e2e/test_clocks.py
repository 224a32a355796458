"""Wall clocks that are wrong or are set while Kurs runs."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.adapters import sql
from tests import servers
from tests.conftest import require_installed
from tests.shifted_clock import ShiftedClock
from tests.system import FAST_SETTINGS, distributed, kurs_process, single_process
from tests.waiting import wait_until

HOUR, DAY = 3600, 86_400
ENV = {**FAST_SETTINGS, "KURS_HISTORY_BARS": "0", "KURS_REFERENCE_PRICE_SECONDS": "8"}


def test_process_reports_a_step_of_its_clock(tmp_path: Path) -> None:
    clock = require_installed(lambda: ShiftedClock(tmp_path / "clock", 3600))
    process = kurs_process(tmp_path, "simulator", **clock.env)
    try:
        process.start()
        clock.set(-86400)
        wait_until(lambda: "clock was set back" in process.log(), "a line in the log", details=process.log)
        metrics = httpx.get(f"{process.url}/metrics").text
    finally:
        process.stop()
    assert process.log().count("the machine's clock was set back by 90000.0 s") == 1
    assert "kurs_clock_steps_total 1.0" in metrics
    (offset,) = re.findall(r"^kurs_clock_offset_seconds (.*)$", metrics, re.MULTILINE)
    assert float(offset) == pytest.approx(-90_000, abs=1)


def get_json(url: str, path: str = "/v2/courses?direction=BTC-USD") -> dict[str, Any]:
    """Return the body of a response with any status, {} without a response."""
    try:
        body: dict[str, Any] = httpx.get(f"{url}{path}", timeout=5).json()
    except httpx.HTTPError:
        return {}
    return body


def price_moves(url: str, clock: ShiftedClock) -> bool:
    """Return whether Binance's price changes within a second and is fresh by that clock."""
    first = price_received_at(url)
    time.sleep(1)
    second = price_received_at(url)
    return first is not None and second is not None and second > first and abs(second - time.time() - clock.seconds) < 9


def price_received_at(url: str) -> float | None:
    """Return when Binance's price in the response was received, None if another exchange is active."""
    body = get_json(url)
    return body["courses"][0]["legs"][0]["received"] / 1000 if body.get("exchanger") == "binance" else None


def test_prices_move_after_clock_steps_and_a_restart_with_future_rates(tmp_path: Path) -> None:
    clock = require_installed(lambda: ShiftedClock(tmp_path / "clock"))
    with single_process(tmp_path, ENV, clock) as system:
        wait_until(lambda: price_moves(system.url, clock), "prices that move")
        for ahead in (-HOUR, DAY):
            clock.set(ahead)
            wait_until(lambda: price_moves(system.url, clock), f"prices that move with a clock {ahead} s ahead")
        wait_until(lambda: asyncio.run(has_future_rates(system.database)), "stored rates of tomorrow")
        system.processes["kurs"].stop()
        clock.set(0)
        system.processes["kurs"].start()
        wait_until(lambda: price_moves(system.url, clock), "prices that move after the restart")


async def has_future_rates(database: str) -> bool:
    store = await sql.connect(database)
    try:
        return any(rate.time > (time.time() + HOUR) * 1000 for rate in await store.rates())
    finally:
        await store.close()


def test_rates_of_a_pricer_with_a_wrong_clock_are_refused_with_the_reason(
    tmp_path: Path, private: servers.PrivateServers
) -> None:
    clock = require_installed(lambda: ShiftedClock(tmp_path / "clock"))
    with distributed(tmp_path, private, ENV, {"pricer": clock}) as system:
        wait_until(lambda: price_moves(system.url, clock), "prices that move")
        clock.set(-HOUR)
        wait_until(lambda: "clock: the pricer's stamps are 36" in get_json(system.url).get("detail", ""), "a refusal")
        in_use = get_json(system.processes["api 1"].url, "/v1/exchanges")["in_use"]
        assert in_use["exchange"] is None or in_use["exchange"] == "coingecko"
        assert "clock: the pricer's stamps are 36" in in_use["pricer"]["reason"]
        assert in_use["pricer"]["age_ms"] > 3_000  # the active exchange is a second older or younger than its rates
        clock.set(0)
        wait_until(lambda: price_moves(system.url, clock), "prices that move again")
