"""Rates over HTTP: the exact JSON, ages and sources, conditional requests, quotas, errors."""

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
from tests.waiting import eventually

NOW = 1_800_000_000_000


@pytest.fixture
async def replica() -> AsyncIterator[CoursesReplica]:
    replica = CoursesReplica()
    replica.publish_quotes("binance", "coingecko")
    async with replica.client:
        yield replica


async def test_v1_response_has_the_documented_shape_and_every_digit(replica: CoursesReplica) -> None:
    answer = await replica.get("/v1/courses?direction=BTC-USD")
    assert answer.text == '{"exchanger":"binance","courses":[{"direction":"BTC-USD","value":97595.412013}]}'
    answer = await replica.get("/v1/courses?direction=BTC-USD&exchanger=coingecko")
    assert answer.text == '{"exchanger":"coingecko","courses":[{"direction":"BTC-USD","value":97600.123456789}]}'
    everything = json.loads((await replica.get("/courses")).text)
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
async def test_directions_are_filtered_by_direction_base_and_quote(
    replica: CoursesReplica, query: str, directions: list[str]
) -> None:
    answer = (await replica.get(f"/v1/courses?{query}")).json()
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
        ("direction=%ff%3Cscript%3E", 422, "does not exist"),
        ("direction=%00", 400, "direction: U+0000 is not accepted"),
    ],
)
async def test_invalid_query_gets_a_problem_that_says_what_is_accepted(
    replica: CoursesReplica, query: str, status: int, part: str
) -> None:
    answer = await replica.get(f"/v1/courses?{query}")
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert part in problem["detail"]
    assert {"type", "title", "instance", "code"} <= problem.keys()
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_current_etag_gets_304_until_a_rate_changes(replica: CoursesReplica) -> None:
    first = await replica.get("/v1/courses")
    etag = first.headers["etag"]
    for tag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await replica.get("/v1/courses", if_none_match=tag)
        assert (again.status_code, again.content) == (304, b"")
        for name in ("etag", "cache-control", "vary"):
            assert again.headers[name] == first.headers[name]
    assert (await replica.get("/v1/courses", if_none_match='"other"')).status_code == 200
    assert first.headers["cache-control"] == "public, max-age=1, stale-while-revalidate=5"
    replica.clock.time += 60
    replica._publish_quote("binance", "BTC-USDT", Decimal(97000), Decimal(97001))
    replica.publish_rates()
    changed = await replica.get("/v1/courses", if_none_match=etag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


@pytest.mark.parametrize("path", ["/v1/courses", "/livez", "/openapi.json", "/nowhere"])
async def test_head_has_the_headers_of_get_without_a_body(replica: CoursesReplica, path: str) -> None:
    headers = {"x-request-id": "the-same"}
    get, head = await replica.client.get(path, headers=headers), await replica.client.head(path, headers=headers)
    assert head.content == b""
    assert (head.status_code, head.headers) == (get.status_code, get.headers)


async def test_head_of_a_stream_ends_with_its_headers(replica: CoursesReplica) -> None:
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
    app = create_app(replica.deps, AppSpec([routes]))
    async with serve_app(app) as address, httpx.AsyncClient() as client:
        answer = await client.head(f"http://{address}/stream")
        assert (answer.status_code, answer.content) == (200, b"")
        await eventually(lambda: left)


async def test_v2_response_has_ages_legs_and_the_other_candidates(replica: CoursesReplica) -> None:
    replica.clock.time += 1_500
    answer = (await replica.get("/v2/courses?direction=BTC-USD,NO-SUCH")).json()
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


async def test_stale_rates_are_served_from_another_exchange_and_then_refused(
    replica: CoursesReplica, caplog: pytest.LogCaptureFixture
) -> None:
    replica.clock.time += 6_000
    assert (await replica.get("/v1/courses")).json()["exchanger"] == "coingecko"
    replica.clock.time += 1_000_000
    refused = await replica.get("/v1/courses?direction=BTC-USD")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    problem = refused.json()
    assert "BTC-USDT from binance is 1006.0 s old" in problem["detail"]
    assert problem["last_known"] == [
        {"direction": "BTC-USD", "value": "97595.412013", "exchange": "binance", "age_ms": 1_006_000}
    ]
    assert (await replica.get("/readyz")).status_code == 503
    assert "/v1/courses 503" in caplog.text
    assert "/readyz" not in caplog.text  # requested every few seconds by a supervisor


async def test_missing_directions_are_listed_beside_available_ones() -> None:
    replica = CoursesReplica(exchanges=("binance", "deribit", "coingecko"))
    for name, price in {"BTC-USD": "97600", "ETH-USD": "3290"}.items():
        replica._publish_quote("deribit", name, Decimal(price))
    replica.publish_rates()
    async with replica.client:
        answer = await replica.get("/v1/courses")
        assert {course["direction"] for course in answer.json()["courses"]} == {"BTC-USD", "ETH-USD"}
        assert "BTC-RUB" in answer.headers["kurs-missing"]
        assert (await replica.get("/v1/courses?direction=BTC-RUB")).status_code == 503


async def test_every_response_names_its_market(replica: CoursesReplica) -> None:
    assert (await replica.get("/v1/courses")).headers["kurs-market"] == "live"
    replica = CoursesReplica(SIMULATED)
    for path in ("/v1/courses", "/v2/courses", "/v1/exchanges", "/nowhere", "/livez"):
        assert (await replica.get(path)).headers["kurs-market"] == "simulated"
    replica.calculator.apply(ExchangeStatus("binance", NOW, True, "socket", "", "", NOW, NOW, 0, True))
    replica.publish_quotes("binance", "coingecko")
    assert (await replica.get("/v1/courses")).headers["kurs-market"] == "simulated"
    assert (await replica.get("/v2/courses")).json()["simulated"] is True


async def test_unknown_paths_and_methods_get_problem_details(replica: CoursesReplica) -> None:
    for method, path, status in (("GET", "/v1/nowhere", 404), ("POST", "/v1/courses", 405), ("PUT", "/livez", 405)):
        answer = await replica.client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["vary"] == "Origin"
        assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


async def test_unknown_parameter_is_reported_in_v1_and_refused_in_v2(replica: CoursesReplica) -> None:
    for query, ignored in (
        ("directions=BTC-USD&_=17", "directions"),
        ("direction[]=BTC-USD", "direction[]"),
        ("direction=BTC-USD&exchange=deribit&x%0d%0ay=1", "exchange,xy"),
    ):
        answer = await replica.get(f"/v1/courses?{query}")
        assert (answer.status_code, answer.headers["kurs-ignored"]) == (200, ignored)
    assert "kurs-ignored" not in (await replica.get("/v1/courses?direction=BTC-USD&_=17")).headers
    refused = await replica.get("/v2/courses?exchange=deribit")
    assert refused.status_code == 400
    assert "no parameter 'exchange'; did you mean exchanger? there are: direction, base" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/courses", "/livez", "/nowhere"])
async def test_pages_of_configured_origins_may_read_responses_and_others_may_not(
    replica: CoursesReplica, path: str
) -> None:
    allowed = await replica.get(path, origin="http://localhost:5173")
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:5173"
    exposed = set(allowed.headers["access-control-expose-headers"].lower().split(", "))
    unread = {"access-control-allow-origin", "access-control-expose-headers", "cache-control", "content-length"}
    assert set(allowed.headers) - unread - {"content-type", "date", "vary", "x-content-type-options"} <= exposed
    assert {"kurs-exchange", "x-ratelimit-remaining", "retry-after", "cache-status"} <= exposed
    other = await replica.get(path, origin="http://evil.example")
    assert "access-control-allow-origin" not in other.headers
    assert allowed.headers["vary"] == other.headers["vary"] == "Origin"
    preflight_headers = {
        "origin": "http://localhost:5173",
        "access-control-request-method": "GET",
        "access-control-request-headers": "cache-control,last-event-id",  # as event streams over fetch send them
    }
    preflight = await replica.client.options(path, headers=preflight_headers)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
        200,
        preflight_headers["origin"],
    )


async def test_request_id_of_the_client_is_used_only_if_it_is_a_short_word(replica: CoursesReplica) -> None:
    assert (await replica.get("/v1/courses", x_request_id="trace-42")).headers["x-request-id"] == "trace-42"
    for hostile in ("a b\tc", "x" * 500, "<script>"):
        assert (await replica.get("/v1/courses", x_request_id=hostile)).headers["x-request-id"] != hostile


async def test_metrics_count_requests_by_route_and_unknown_paths_together(replica: CoursesReplica) -> None:
    for path in ("/v1/courses", "/v1/directions", "/no/such/1", "/no/such/2"):
        await replica.get(path)
    await replica.client.head("/livez")
    text = (await replica.get("/metrics")).text
    assert 'kurs_http_request_seconds_count{method="HEAD",route="/livez",status="200"} 1.0' in text
    assert 'kurs_http_request_seconds_count{method="GET",route="/v1/courses",status="200"} 1.0' in text
    assert 'kurs_http_request_seconds_count{method="GET",route="/v1/directions",status="200"} 1.0' in text
    assert 'kurs_http_request_seconds_count{method="GET",route="other",status="404"} 2.0' in text


async def test_directions_have_routes_and_exchanges_have_reasons(replica: CoursesReplica) -> None:
    directions = (await replica.get("/v1/directions")).json()["directions"]
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
    exchanges = (await replica.get("/v1/exchanges")).json()
    assert [exchange["exchange"] for exchange in exchanges["exchanges"]] == ["binance", "deribit", "coingecko"]
    assert exchanges["exchanges"][0]["reason"] == "its collector has not reported"
    for path in ("/v1/directions", "/v1/exchanges"):
        answer = await replica.get(path)
        assert "max-age" in answer.headers["cache-control"]
        assert (await replica.get(path, if_none_match=answer.headers["etag"])).status_code == 304
        head = await replica.client.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])


async def test_exchange_is_not_connected_once_its_collector_is_silent(replica: CoursesReplica) -> None:
    replica.deps.hub.apply(ExchangeStatus("binance", NOW, True, "socket", "host", "connected", NOW, NOW, 0, False))
    for passed, connected, reason in ((4, True, "connected"), (4, False, "its collector has not reported for 8 s")):
        replica.clock.time += passed * 1000
        binance = (await replica.get("/v1/exchanges")).json()["exchanges"][0]
        assert (binance["connected"], binance["reason"]) == (connected, reason)
