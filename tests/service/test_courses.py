"""The rates' answers over HTTP: the asked shape to the letter, ages and origins, conditional requests, errors."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest
from fastapi import APIRouter
from starlette.responses import StreamingResponse

from services.core.markets import SIMULATED
from services.core.model import ExchangeStatus
from services.web import AppSpec, create_app
from tests.api import CoursesReplica
from tests.simulator import serve_app

NOW = 1_800_000_000_000


@pytest.fixture
async def world() -> AsyncIterator[CoursesReplica]:
    world = CoursesReplica()
    world.publish_quotes("binance", "coingecko")
    async with world.client:
        yield world


async def test_v1_answers_in_the_asked_shape_with_every_digit(world: CoursesReplica) -> None:
    answer = await world.get("/v1/courses?direction=BTC-USD")
    assert answer.text == '{"exchanger":"binance","courses":[{"direction":"BTC-USD","value":97595.412013}]}'
    answer = await world.get("/v1/courses?direction=BTC-USD&exchanger=coingecko")
    assert answer.text == '{"exchanger":"coingecko","courses":[{"direction":"BTC-USD","value":97600.123456789}]}'
    everything = json.loads((await world.get("/courses")).text)
    assert [course["direction"] for course in everything["courses"]] == [
        f"{base}-{quote}" for base in ("BTC", "ETH", "USDTTRC", "USDTERC") for quote in ("RUB", "USD")
    ]


@pytest.mark.parametrize(
    ("query", "directions"),
    [
        ("direction=eth-rub,BTC-USD", ["ETH-RUB", "BTC-USD"]),
        ("direction=BTC-USD&direction=BTC-USD", ["BTC-USD"]),
        ("base=BTC,ETH&quote=USD", ["BTC-USD", "ETH-USD"]),
        ("quote=RUB&base=USDTTRC", ["USDTTRC-RUB"]),
        ("direction=BTC-USD,BTC-RUB&quote=RUB&utm=x", ["BTC-RUB"]),
    ],
)
async def test_filters(world: CoursesReplica, query: str, directions: list[str]) -> None:
    answer = (await world.get(f"/v1/courses?{query}")).json()
    assert [course["direction"] for course in answer["courses"]] == directions


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("direction=BTC-USDD", 422, "did you mean BTC-USD"),
        ("direction=BTC-USD,XRP-USD", 422, "there are: BTC-RUB"),
        ("base=DOGE", 422, "base 'DOGE' does not exist"),
        ("exchanger=kraken", 422, "there are: binance, deribit, coingecko"),
        ("direction=BTC-USD&quote=RUB", 422, "matches all of direction, base and quote"),
        ("direction=" + "BTC-USD," * 400, 400, "bytes long"),
        ("&".join("a=1" for _ in range(60)), 400, "more than 50"),
        ("direction=%00%ff%3Cscript%3E", 422, "does not exist"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_told_why(
    world: CoursesReplica, query: str, status: int, part: str
) -> None:
    answer = await world.get(f"/v1/courses?{query}")
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert part in problem["detail"]
    assert {"type", "title", "instance", "code"} <= problem.keys()
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_a_client_that_has_it_is_told_so_until_it_changes(world: CoursesReplica) -> None:
    first = await world.get("/v1/courses")
    etag = first.headers["etag"]
    for tag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await world.get("/v1/courses", if_none_match=tag)
        assert (again.status_code, again.content) == (304, b"")
        for name in ("etag", "cache-control", "vary"):
            assert again.headers[name] == first.headers[name]
    assert (await world.get("/v1/courses", if_none_match='"other"')).status_code == 200
    assert first.headers["cache-control"] == "public, max-age=1, stale-while-revalidate=5"
    world.clock.time += 60
    world._publish_quote("binance", "BTC-USDT", Decimal(97000), Decimal(97001))
    world.publish_rates()
    changed = await world.get("/v1/courses", if_none_match=etag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


@pytest.mark.parametrize("path", ["/v1/courses", "/livez", "/openapi.json", "/nowhere"])
async def test_head_is_get_without_a_body(world: CoursesReplica, path: str) -> None:
    asked = {"x-request-id": "the-same"}
    get, head = await world.client.get(path, headers=asked), await world.client.head(path, headers=asked)
    assert head.content == b""
    assert (head.status_code, head.headers) == (get.status_code, get.headers)


async def test_head_of_a_stream_ends_with_its_headers(world: CoursesReplica) -> None:
    left: list[bool] = []

    async def stream() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b": still here\n\n"
                await asyncio.sleep(0.01)
        finally:
            left.append(True)

    routes = APIRouter()
    routes.add_api_route("/stream", lambda: StreamingResponse(stream(), media_type="text/event-stream"))
    app = create_app(world.deps, AppSpec([routes]))
    async with serve_app(app) as address, httpx.AsyncClient() as client:
        answer = await client.head(f"http://{address}/stream")
        assert (answer.status_code, answer.content) == (200, b"")
        async with asyncio.timeout(5):
            while not left:
                await asyncio.sleep(0.01)


async def test_v2_tells_age_origin_and_what_the_others_say(world: CoursesReplica) -> None:
    world.clock.time += 1_500
    answer = (await world.get("/v2/courses?direction=BTC-USD,NO-SUCH")).json()
    (course,) = answer["courses"]
    assert answer["missing"] == [{"direction": "NO-SUCH", "reason": "no such direction"}]
    assert (answer["exchanger"], answer["simulated"], answer["time"]) == ("binance", False, NOW + 1_500)
    assert (course["value"], course["quality"], course["age_ms"]) == ("97595.412013", "derived", 1_500)
    assert Decimal(course["bid"]) < Decimal(course["value"]) < Decimal(course["ask"])
    own, peg = course["legs"]
    assert (own["exchange"], own["instrument"], own["value"], own["age_ms"]) == (
        "binance",
        "BTC-USDT",
        "97614.935",
        1_500,
    )
    assert (peg["exchange"], peg["instrument"], peg["value"]) == ("coingecko", "USDT-USD", "0.9998")
    others = {other["exchange"]: other for other in course["others"]}
    assert others["coingecko"]["deviation_bps"] == "0.48"
    assert others["coingecko"]["set_aside"] is None
    assert (others["deribit"]["value"], others["deribit"]["set_aside"]) == (None, "missing")


async def test_stale_rates_move_to_another_exchange_and_then_to_a_refusal(
    world: CoursesReplica, caplog: pytest.LogCaptureFixture
) -> None:
    world.clock.time += 6_000
    assert (await world.get("/v1/courses")).json()["exchanger"] == "coingecko"
    world.clock.time += 1_000_000
    refused = await world.get("/v1/courses?direction=BTC-USD")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    problem = refused.json()
    assert "BTC-USDT from binance is 1006.0 s old" in problem["detail"]
    assert problem["last_known"] == [
        {"direction": "BTC-USD", "value": "97595.412013", "exchange": "binance", "age_ms": 1_006_000}
    ]
    assert (await world.get("/readyz")).status_code == 503
    assert "/v1/courses 503" in caplog.text
    assert "/readyz" not in caplog.text  # a supervisor asks every few seconds


async def test_missing_directions_are_listed_beside_available_ones() -> None:
    world = CoursesReplica(exchanges=("binance", "deribit", "coingecko"))
    for name, price in {"BTC-USD": "97600", "ETH-USD": "3290"}.items():
        world._publish_quote("deribit", name, Decimal(price))
    world.publish_rates()
    async with world.client:
        answer = await world.get("/v1/courses")
        assert {course["direction"] for course in answer.json()["courses"]} == {"BTC-USD", "ETH-USD"}
        assert "BTC-RUB" in answer.headers["kurs-missing"]
        assert (await world.get("/v1/courses?direction=BTC-RUB")).status_code == 503


async def test_every_response_of_a_simulated_market_says_so(world: CoursesReplica) -> None:
    assert (await world.get("/v1/courses")).headers["kurs-market"] == "live"
    world = CoursesReplica(SIMULATED)
    for path in ("/v1/courses", "/v2/courses", "/v1/exchanges", "/nowhere", "/livez"):
        assert (await world.get(path)).headers["kurs-market"] == "simulated"
    world.book.apply(ExchangeStatus("binance", NOW, True, "socket", "", "", NOW, NOW, 0, True))
    world.publish_quotes("binance", "coingecko")
    assert (await world.get("/v1/courses")).headers["kurs-market"] == "simulated"
    assert (await world.get("/v2/courses")).json()["simulated"] is True


async def test_errors_of_the_framework_are_problems_too(world: CoursesReplica) -> None:
    for method, path, status in (("GET", "/v1/nowhere", 404), ("POST", "/v1/courses", 405), ("PUT", "/livez", 405)):
        answer = await world.client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["vary"] == "Origin"
        assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


async def test_a_parameter_that_is_not_known_is_told(world: CoursesReplica) -> None:
    for query, ignored in (
        ("directions=BTC-USD&_=17", "directions"),
        ("direction[]=BTC-USD", "direction[]"),
        ("direction=BTC-USD&exchange=deribit&x%0d%0ay=1", "exchange,xy"),
    ):
        answer = await world.get(f"/v1/courses?{query}")
        assert (answer.status_code, answer.headers["kurs-ignored"]) == (200, ignored)
    assert "kurs-ignored" not in (await world.get("/v1/courses?direction=BTC-USD&_=17")).headers
    refused = await world.get("/v2/courses?exchange=deribit")
    assert refused.status_code == 400
    assert "no parameter 'exchange'; did you mean exchanger? there are: direction, base" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/courses", "/livez", "/nowhere"])
async def test_configured_pages_may_read_it_and_others_may_not(world: CoursesReplica, path: str) -> None:
    allowed = await world.get(path, origin="http://localhost:5173")
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:5173"
    exposed = set(allowed.headers["access-control-expose-headers"].lower().split(", "))
    unread = {"access-control-allow-origin", "access-control-expose-headers", "cache-control", "content-length"}
    assert set(allowed.headers) - unread - {"content-type", "date", "vary", "x-content-type-options"} <= exposed
    assert {"kurs-exchange", "x-ratelimit-remaining", "retry-after", "cache-status"} <= exposed
    other = await world.get(path, origin="http://evil.example")
    assert "access-control-allow-origin" not in other.headers
    assert allowed.headers["vary"] == other.headers["vary"] == "Origin"
    asks = {
        "origin": "http://localhost:5173",
        "access-control-request-method": "GET",
        "access-control-request-headers": "cache-control,last-event-id",  # of event streams over fetch
    }
    preflight = await world.client.options(path, headers=asks)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, asks["origin"])


async def test_request_ids_are_the_clients_own_if_sane(world: CoursesReplica) -> None:
    assert (await world.get("/v1/courses", x_request_id="trace-42")).headers["x-request-id"] == "trace-42"
    for hostile in ("a b\tc", "x" * 500, "<script>"):
        assert (await world.get("/v1/courses", x_request_id=hostile)).headers["x-request-id"] != hostile


async def test_metrics_count_requests_by_route_without_unbounded_labels(world: CoursesReplica) -> None:
    for path in ("/v1/courses", "/v1/directions", "/no/such/1", "/no/such/2"):
        await world.get(path)
    await world.client.head("/livez")
    text = (await world.get("/metrics")).text
    assert 'kurs_http_request_seconds_count{method="HEAD",route="/livez",status="200"} 1.0' in text
    assert 'kurs_http_request_seconds_count{method="GET",route="/v1/courses",status="200"} 1.0' in text
    assert 'kurs_http_request_seconds_count{method="GET",route="/v1/directions",status="200"} 1.0' in text
    assert 'kurs_http_request_seconds_count{method="GET",route="other",status="404"} 2.0' in text


async def test_directions_and_exchanges(world: CoursesReplica) -> None:
    directions = (await world.get("/v1/directions")).json()["directions"]
    assert directions[4]["direction"] == "USDTTRC-RUB"
    assert directions[4]["asset"] == "USDT"
    assert directions[4]["routes"][0] == {
        "exchange": "binance",
        "legs": [
            {"exchange": "binance", "instrument": "USDC-USDT", "inverted": True},
            {"exchange": "coingecko", "instrument": "USDC-RUB", "inverted": False},
        ],
        "not_traded": [],
    }
    exchanges = (await world.get("/v1/exchanges")).json()
    assert [exchange["exchange"] for exchange in exchanges["exchanges"]] == ["binance", "deribit", "coingecko"]
    assert exchanges["exchanges"][0]["reason"] == "its collector has not reported"
    for path in ("/v1/directions", "/v1/exchanges"):
        answer = await world.get(path)
        assert "max-age" in answer.headers["cache-control"]
        assert (await world.get(path, if_none_match=answer.headers["etag"])).status_code == 304
        head = await world.client.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])


async def test_a_collector_that_says_nothing_any_more_is_not_connected(world: CoursesReplica) -> None:
    world.deps.hub.apply(ExchangeStatus("binance", NOW, True, "socket", "host", "connected", NOW, NOW, 0, False))
    for passed, connected, reason in ((4, True, "connected"), (4, False, "its collector has not reported for 8 s")):
        world.clock.time += passed * 1000
        binance = (await world.get("/v1/exchanges")).json()["exchanges"][0]
        assert (binance["connected"], binance["reason"]) == (connected, reason)
