"""The simulated CoinGecko: prices that change once a minute, keys of its rounded hosts, and its errors."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import websockets

from tests.simulator import MONDAY_MS, SimulatorServer, connect_socket, run_fast_simulator

API, PRO = "/coingecko/api/v3", "/coingecko-pro/api/v3"
NOON = MONDAY_MS + 43_200_000
PRO_KEY_HEADERS = {"x-cg-pro-api-key": "CG-ours"}
CLOCK_SPEED = 60
SLOW_CLOCK_SPEED = 0.1  # so that a busy machine sends all requests within one minute of the simulator
DECIMAL_DECODER = msgspec.json.Decoder(float_hook=Decimal)


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(NOON) as market:
        yield market


async def get_pro(market: SimulatorServer, path: str) -> Any:
    """Send a request to the host without a rate limit."""
    return DECIMAL_DECODER.decode((await market.client.get(f"{PRO}/{path}", headers=PRO_KEY_HEADERS)).content)


async def test_prices_change_once_a_minute() -> None:
    """A simulated minute takes a second."""
    async with run_fast_simulator(NOON, CLOCK_SPEED) as market:
        path = "simple/price?ids=bitcoin,tether&vs_currencies=usd,rub&include_last_updated_at=true&precision=full"
        responses, began = [], time.monotonic()
        for _ in range(30):
            responses.append(await get_pro(market, path))
            await asyncio.sleep(0.1)
        took = time.monotonic() - began  # 3 s, or more on a busy machine
    bodies = {response["bitcoin"]["last_updated_at"]: response for response in responses}
    assert 3 <= len(bodies) <= took + 2
    assert all(bodies[response["bitcoin"]["last_updated_at"]] == response for response in responses)
    assert all(each % 60 == 0 for each in bodies)
    for response in responses:
        rub = response["tether"]["rub"] / response["tether"]["usd"]
        assert response["bitcoin"]["rub"] == pytest.approx(response["bitcoin"]["usd"] * rub)


async def test_unknown_coins_are_left_out(market: SimulatorServer) -> None:
    answer = await get_pro(market, "simple/price?ids=bitcoin,nonsense&vs_currencies=usd,xyz")
    assert answer.keys() == {"bitcoin"}
    assert answer["bitcoin"].keys() == {"usd"}
    assert await get_pro(market, "simple/price?ids=nonsense&vs_currencies=usd") == {}


async def test_precision_flags_and_selectors_of_simple_price(market: SimulatorServer) -> None:
    bare = await get_pro(market, "simple/price?ids=bitcoin,tether,dogecoin&vs_currencies=usd,rub")
    assert isinstance(bare["bitcoin"]["usd"], int)
    assert bare["tether"]["rub"].as_tuple().exponent == -2
    assert bare["dogecoin"]["usd"] < 1
    rounded = await get_pro(market, "simple/price?symbols=btc&vs_currencies=usd&precision=2")
    assert rounded["bitcoin"]["usd"].as_tuple().exponent >= -2
    flags = "include_market_cap=true&include_24hr_vol=true&include_24hr_change=true&include_last_updated_at=true"
    full = await get_pro(market, f"simple/price?names=Bitcoin&vs_currencies=usd&{flags}")
    assert full["bitcoin"].keys() == {"usd", "usd_market_cap", "usd_24h_vol", "usd_24h_change", "last_updated_at"}


async def test_other_endpoints_agree_with_simple_price(market: SimulatorServer) -> None:
    rates = (await get_pro(market, "exchange_rates"))["rates"]
    price = (await get_pro(market, "simple/price?ids=bitcoin&vs_currencies=usd,rub&precision=full"))["bitcoin"]
    assert rates["rub"]["value"] / rates["usd"]["value"] == pytest.approx(price["rub"] / price["usd"])
    assert (await get_pro(market, "ping"))["gecko_says"]
    assert {"usd", "rub"} <= set(await get_pro(market, "simple/supported_vs_currencies"))
    assert {"id": "tether", "symbol": "usdt", "name": "Tether"} in await get_pro(market, "coins/list")
    first = (await get_pro(market, "coins/markets?vs_currency=usd&per_page=1"))[0]
    assert (first["id"], first["current_price"]) == ("bitcoin", round(price["usd"]))
    candles = await get_pro(market, "coins/bitcoin/ohlc?vs_currency=usd&days=1")
    assert len(candles) == 48
    assert candles[-1][0] <= NOON + 60_000  # the end of a candle, not after now
    assert all(low <= first <= high and low <= last <= high for _, first, high, low, last in candles)
    chart = await get_pro(market, "coins/bitcoin/market_chart?vs_currency=usd&days=30")
    assert [len(chart[key]) for key in ("prices", "market_caps", "total_volumes")] == [720, 720, 720]
    assert chart["prices"][-1][1] == pytest.approx(price["usd"], rel=Decimal("0.01"))


ERRORS = [
    (f"{API}/simple/price?ids=bitcoin", {}, 422, lambda body: body["error"]),
    (f"{API}/coins/nonsense/ohlc?vs_currency=usd&days=1", {}, 404, lambda body: body["error"] == "coin not found"),
    (f"{API}/nonsense", {}, 404, lambda body: body["error"]),
    (f"{API}/coins/bitcoin/market_chart?vs_currency=usd&days=366", {}, 401, lambda body: status_error(body) == 10012),
    (f"{API}/ping", PRO_KEY_HEADERS, 400, lambda body: body["status"]["error_code"] == 10010),
    (f"{PRO}/ping", {"x-cg-demo-api-key": "CG-ours"}, 400, lambda body: body["status"]["error_code"] == 10011),
    (f"{PRO}/ping", {}, 401, lambda body: body["status"]["error_code"] == 10002),
    (f"{API}/ping?x_cg_demo_api_key=CG-ours", {}, 200, lambda body: body["gecko_says"]),
]


def status_error(body: Any) -> Any:
    return body["error"]["status"]["error_code"]


@pytest.mark.parametrize(("path", "headers", "status", "right"), ERRORS, ids=range(len(ERRORS)))
async def test_wrong_request_gets_coingeckos_error(
    market: SimulatorServer, path: str, headers: dict[str, str], status: int, right: Any
) -> None:
    answer = await market.client.get(path, headers=headers)
    assert answer.status_code == status
    assert right(answer.json())


async def test_calls_beyond_the_rate_limit_are_refused() -> None:
    async with run_fast_simulator(NOON, SLOW_CLOCK_SPEED) as market:
        answers = [await market.client.get(f"{API}/ping") for _ in range(70)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 0 < len(refused) < 30
    assert refused[0].json()["status"]["error_code"] == 429
    assert 0 < int(refused[0].headers["retry-after"]) <= 60


IDENTIFIER = '{"channel":"CGSimplePrice"}'


async def test_prices_are_pushed_to_a_client_with_a_key() -> None:
    async with run_fast_simulator(NOON, CLOCK_SPEED) as market:
        with pytest.raises(websockets.InvalidStatus, match="401"):
            async with connect_socket(market, "/coingecko/v1"):
                pass
        async with connect_socket(market, "/coingecko/v1?x_cg_pro_api_key=CG-ours") as client:
            await client.send(command="subscribe", identifier=IDENTIFIER)
            assert await client.read_until(bool) == {"type": "confirm_subscription", "identifier": IDENTIFIER}
            data = '{"coin_id":["bitcoin"],"vs_currencies":["usd","rub"],"action":"set_tokens"}'
            await client.send(command="message", identifier=IDENTIFIER, data=data)
            assert (await client.read_until(bool))["code"] == 2000
            first = await client.read_until(lambda frame: frame.get("vs") == "rub")
            later = await client.read_until(lambda frame: frame.get("vs") == "rub" and frame["t"] > first["t"])
            assert (later["c"], later["i"], later["t"] - first["t"]) == ("C1", "bitcoin", 10)
            await client.send(command="unsubscribe", identifier=IDENTIFIER)
            await client.read_until(lambda frame: frame.get("code") == 2000)
            await client.send(command="dance", identifier=IDENTIFIER)
            await client.read_until(lambda frame: frame.get("code") == 4000)
