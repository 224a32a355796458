"""The simulator's answers beside recorded ones: statuses, keys, kinds of values, digits, errors to the letter."""

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


class RecordedAnswer(msgspec.Struct):
    """What an exchange answered. `fault`: the status that the simulator is asked to have. `newer`: keys that the
    exchange has had since may be there, too. `times`: columns of a row that are the same whatever the market does.
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
            row = msgspec.json.decode(line, type=RecordedAnswer)
            yield pytest.param(exchange, row, id=f"{exchange} {row.status} {row.path.partition('?')[0]}")


@pytest.mark.parametrize(("exchange", "recorded"), list(recordings()))
async def test_answers_are_like_recorded_ones(market: SimulatorServer, exchange: str, recorded: RecordedAnswer) -> None:
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
    """Without what no two answers have in common."""
    if not isinstance(body, dict):
        return body
    return {key: without_volatile_keys(value) for key, value in body.items() if key not in VOLATILE_KEYS}


def has_same_keys(ours: Any, theirs: Any) -> bool:
    """Whether each of their keys is there, and of one kind."""
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
async def test_bars_open_when_they_did(market: SimulatorServer, interval: str, opening: str) -> None:
    at = int(datetime.fromisoformat(opening).replace(tzinfo=UTC).timestamp() * 1000)
    query: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": interval, "startTime": at, "endTime": at}
    rows = (await market.client.get("/binance/api/v3/klines", params=query)).json()
    assert [row[0] for row in rows] == [at]


async def test_binance_tells_the_weight_that_was_used_and_when_to_ask_again(market: SimulatorServer) -> None:
    answer = await market.client.get("/binance/api/v3/time")
    assert answer.headers["x-mbx-used-weight"] == answer.headers["x-mbx-used-weight-1m"]
    assert "retry-after" not in answer.headers
    for status in (429, 418):
        await market.fault("binance", "status", status=status, retry_after=7)
        refused = await market.client.get("/binance/api/v3/time")
        await market.clear_faults()
        assert (refused.status_code, refused.headers["retry-after"]) == (status, "7")
