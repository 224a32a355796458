"""The candles' addresses: described here, answered before any routing."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from services.api.backfill_status import BackfillStatus
from services.api.candles import schemas
from services.api.candles.answers import Answers
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.chart_data import ChartDataHandler
from services.api.candles.coverage_report import CoverageHandler
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.candles.symbol_handlers import SymbolHandlers
from services.api.candles.udf import CALL_NAMES, Udf
from services.ports import Deps
from services.web import Brief, FastHandler, front_answer

router = APIRouter(tags=["candles"])
UNCHANGED = {"description": "The client has it already"}
SECOND = 1_000
COSTS = {"/api/candles/coverage": 10, "/v1/candles/coverage": 10, "/udf/quotes": 5}
"""As how many requests those count that look at more than they answer."""


def parameters(question: type[BaseModel]) -> dict[str, Any]:
    """A question as OpenAPI's parameters: described here, read by `asked`, whose errors say what to do."""
    schema = question.model_json_schema()
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": field.pop("description", ""),
                "schema": field,
            }
            for name, field in schema["properties"].items()
        ]
    }


@router.get("/v1/chart-data", include_in_schema=False)
@router.get(
    "/api/chart-data",
    operation_id="chart_data",
    summary="Candles",
    response_model=schemas.ChartData,
    responses={304: UNCHANGED},
    openapi_extra=parameters(schemas.ChartQuestion),
)
async def chart_data(connection: HTTPConnection) -> Response:
    """Up to 1,000 candles with openings in [from, to], the forming one included; without `from` the newest ones."""
    return await front_answer(connection)


@router.get("/v1/candles/coverage", include_in_schema=False)
@router.get(
    "/api/candles/coverage",
    operation_id="coverage",
    summary="What is missing, and why",
    response_model=schemas.Coverage,
    responses={304: UNCHANGED},
    openapi_extra=parameters(schemas.CoverageQuestion),
)
async def coverage(connection: HTTPConnection) -> Response:
    """How many closed candles there should be and are, and every hole. Without `from`: of the newest 1,000."""
    return await front_answer(connection)


@router.get("/v1/symbols", include_in_schema=False)
@router.get(
    "/api/symbols",
    operation_id="symbols",
    summary="Everything that has candles",
    response_model=schemas.Symbols,
    responses={304: UNCHANGED},
)
async def symbols(connection: HTTPConnection) -> Response:
    """Symbols with their exchanges and timeframes."""
    return await front_answer(connection)


@router.get("/v1/timeframes", include_in_schema=False)
@router.get(
    "/api/timeframes",
    operation_id="timeframes",
    summary="All timeframes",
    response_model=schemas.Timeframes,
    responses={304: UNCHANGED},
)
async def timeframes(connection: HTTPConnection) -> Response:
    """Boundaries are in UTC; weeks begin on Monday, three days are counted from 2 January 1970."""
    return await front_answer(connection)


async def udf(connection: HTTPConnection) -> Response:
    """TradingView's protocol, which its own pages describe."""
    return await front_answer(connection)


for call in CALL_NAMES:
    router.add_api_route(f"/udf/{call}", udf, include_in_schema=False)


def fronts(
    deps: Deps, listing: SymbolCatalog, pages: CandlePageCache, backfill: BackfillStatus
) -> Mapping[str, FastHandler]:
    """The candles' addresses with what answers them."""
    named, now = SymbolHandlers(listing), deps.clock.monotonic
    reads: Mapping[str, FastHandler] = {
        "chart-data": Answers(deps, ChartDataHandler(deps, listing, pages, backfill).build),
        "candles/coverage": Brief(CoverageHandler(deps, listing, backfill).coverage, now, SECOND, 16),
        "symbols": Brief(named.symbols, now, SECOND, 1),
        "timeframes": Brief(named.timeframes, now, 3600 * SECOND, 1),
    }
    both = {f"{root}/{name}": front for root in ("/api", "/v1") for name, front in reads.items()}
    return both | dict(Udf(deps, listing, pages, backfill).fronts())
