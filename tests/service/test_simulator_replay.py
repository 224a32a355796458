"""The simulator replaying a file of real trades."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.core.errors import Misconfigured
from services.settings import Settings
from services.simulator import JOBS
from tests.simulator import MONDAY_MS, connect_socket, is_gapless, run_fast_simulator

HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
START_MS = 1_633_998_523_963


def trade_line(number: int, unit: int = 1) -> str:
    """Return a trade of second `number`, each a dollar above the one before."""
    price, fill, time = f"{50_000 + number}.50", 2000 + number, (START_MS + 1000 * number) * unit
    return f"{900 + number},{price},0.01000,{fill},{fill},{time},{number % 2 == 0}"


@pytest.mark.parametrize(("header", "unit"), [(HEADER, 1), ("", 1000)])
async def test_replayed_trades_equal_the_file_and_other_exchanges_follow(
    tmp_path: Path, header: str, unit: int
) -> None:
    file = tmp_path / "BTCUSDT-aggTrades-2021-10-12.csv"
    file.write_text(header + "\n".join(trade_line(number, unit) for number in range(600)))
    async with run_fast_simulator(MONDAY_MS, 2, simulator_replay=file, simulator_speed=30) as market:
        async with connect_socket(market, "/binance/ws/btcusdt@aggTrade") as client:
            await client.read_until(lambda frame: frame["a"] > 960)
        trades = (await market.client.get("/binance/api/v3/aggTrades?symbol=BTCUSDT&fromId=900&limit=20")).json()
        index = (await market.client.get("/deribit/api/v2/public/get_index_price?index_name=btc_usd")).json()
        bars = (await market.client.get("/binance/api/v3/klines?symbol=BTCUSDT&interval=1s")).json()
        now = (await market.client.get("/market")).json()
    assert is_gapless([frame["a"] for frame in client.frames])
    assert all(frame["p"] == f"{50_000 + frame['a'] - 900}.50000000" for frame in client.frames)
    assert [trade["T"] - trades[0]["T"] for trade in trades] == [1000 * number // 30 for number in range(20)]
    assert bars[0][1] == "50000.50000000"
    assert index["result"]["index_price"] == pytest.approx(now["usd"]["BTC"], rel=1e-3)
    assert now["usd"]["BTC"] == pytest.approx(50_000 + now["listings"][0]["trade"] - 900, rel=0.01)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("NOPE.csv", "", "must begin with"),
        (
            "BTCUSDT.csv",
            trade_line(1) + "\n1,50000.001,1,1,1,1633998523963,true",
            "line 2: price 50000.001 is no multiple",
        ),
        ("BTCUSDT.csv", "1,2,3", "line 1: 3 columns"),
        ("BTCUSDT.csv", f"{trade_line(1)}\n{trade_line(1)}", "ascend"),
        ("BTCUSDT.csv", None, "No such file"),
    ],
)
async def test_invalid_replay_file_is_refused(tmp_path: Path, name: str, text: str | None, part: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    settings = Settings(_env_file=None, simulator_replay=tmp_path / name)
    with pytest.raises(Misconfigured, match=part):
        await asyncio.gather(*(job(SimpleNamespace(settings=settings)) for job in JOBS))  # type: ignore[arg-type]
