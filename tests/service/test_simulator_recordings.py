"""The simulator's responses compared with recorded ones: statuses, keys, types, decimal places, error texts."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tests.recorded_frames import FRAMES_FOLDER, same_shape
from tests.simulator import MONDAY_MS, SimulatorServer, run_fast_simulator

EXCHANGES = ("binance", "deribit", "coingecko")
VOLATILE_KEYS = {"usIn", "usOut", "usDiff", "timestamp"}


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(MONDAY_MS + 43_200_000) as market:
        yield market


class RecordedResponse(msgspec.Struct):
    """A response of an exchange.

    `fault` is the status that the simulator is set to respond with. With `newer` the simulator may have keys that the
    exchange has added since. `times` are the columns of a row that do not depend on the market.
    """

    path: str
    status: int
    body: Any
    fault: int | None = None
    newer: bool = False
    times: tuple[int, ...] = ()


def recordings() -> Iterator[Any]:
    for exchange in EXCHANGES:
        for line in (FRAMES_FOLDER / f"{exchange}.answers.jsonl").read_bytes().splitlines():
            row = msgspec.json.decode(line, type=RecordedResponse)
            yield pytest.param(exchange, row, id=f"{exchange} {row.status} {row.path.partition('?')[0]}")


@pytest.mark.parametrize(("exchange", "recorded"), list(recordings()))
async def test_response_equals_or_resembles_the_recorded_one(
    market: SimulatorServer, exchange: str, recorded: RecordedResponse
) -> None:
    if recorded.fault:
        await market.fault(exchange, "status", status=recorded.fault)
    answer = await market.client.get(f"/{exchange}{recorded.path}")
    await market.clear_faults()
    assert answer.status_code == recorded.status
    body = answer.json()
    if recorded.status >= 400:
        assert without_volatile_keys(body) == without_volatile_keys(recorded.body)
    assert (has_same_keys if recorded.newer else same_shape)(body, recorded.body)
    for column in recorded.times:
        assert [row[column] for row in body] == [row[column] for row in recorded.body]


def without_volatile_keys(body: Any) -> Any:
    """Return a body without the keys that differ in every response."""
    if not isinstance(body, dict):
        return body
    return {key: without_volatile_keys(value) for key, value in body.items() if key not in VOLATILE_KEYS}


def has_same_keys(ours: Any, theirs: Any) -> bool:
    """Return whether ours has each key of theirs, with a value of the same type."""
    if isinstance(theirs, dict):
        return ours.keys() >= theirs.keys() and all(has_same_keys(ours[key], value) for key, value in theirs.items())
    if isinstance(theirs, list):
        return len(ours) >= len(theirs) and all(map(has_same_keys, ours, theirs))
    return same_shape(ours, theirs)


RECORDED_OPEN_TIMES = [
    ("1m", "2020-05-06T04:42"),
    ("3d", "2017-08-17"),
    ("3d", "2019-03-28"),
    ("3d", "2026-07-01"),
    ("3d", "2026-07-07"),
    ("1w", "2017-08-14"),
    ("1M", "2018-01-01"),
]


@pytest.mark.parametrize(("interval", "opening"), RECORDED_OPEN_TIMES)
async def test_kline_of_a_real_open_time_exists(market: SimulatorServer, interval: str, opening: str) -> None:
    at = int(datetime.fromisoformat(opening).replace(tzinfo=UTC).timestamp() * 1000)
    query: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": interval, "startTime": at, "endTime": at}
    rows = (await market.client.get("/binance/api/v3/klines", params=query)).json()
    assert [row[0] for row in rows] == [at]


async def test_binance_response_has_used_weight_and_retry_after(market: SimulatorServer) -> None:
    answer = await market.client.get("/binance/api/v3/time")
    assert answer.headers["x-mbx-used-weight"] == answer.headers["x-mbx-used-weight-1m"]
    assert "retry-after" not in answer.headers
    for status in (429, 418):
        await market.fault("binance", "status", status=status, retry_after=7)
        refused = await market.client.get("/binance/api/v3/time")
        await market.clear_faults()
        assert (refused.status_code, refused.headers["retry-after"]) == (status, "7")
