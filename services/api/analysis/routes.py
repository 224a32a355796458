"""The analysis' addresses: described here, answered before any routing where the path names no symbol."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Response
from starlette.requests import HTTPConnection

from services.api.analysis import schemas
from services.api.backfill_status import BackfillStatus
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.routes import SECOND, UNCHANGED, parameters
from services.api.candles.schemas import NAMED
from services.api.candles.symbol_catalog import SymbolCatalog
from services.ports import Deps
from services.web import Brief, FastHandler, front_answer

if TYPE_CHECKING:
    from services.api.indicators.column_reader import ColumnReader

router = APIRouter(tags=["analysis"])
MAX_CACHED_RESPONSES = 128  # answers kept


@router.get("/v1/analysis", include_in_schema=False)
@router.get(
    "/api/analysis",
    operation_id="analysis",
    summary="What the closed candles of a series come to",
    response_model=schemas.Analysis,
    responses={304: UNCHANGED},
    openapi_extra=parameters(schemas.AnalysisQuestion),
)
async def analysis(connection: HTTPConnection) -> Response:
    """Trend, signals, levels and volatility by fixed rules, and the text of why. A description, not advice."""
    return await front_answer(connection)


@router.get("/v1/analysis/{symbol}/multi", include_in_schema=False)
@router.get(
    "/api/analysis/{symbol}/multi",
    operation_id="analysis_multi",
    summary="Several timeframes summed up",
    response_model=schemas.Multi,
    responses={304: UNCHANGED},
    openapi_extra=parameters(schemas.MultiQuestion),
)
async def multi(connection: HTTPConnection, symbol: Annotated[str, Path(description=NAMED)]) -> Response:
    """The trends of several timeframes by their weights: longer ones count more."""
    return await front_answer(connection)


def fronts(
    deps: Deps, listing: SymbolCatalog, pages: CandlePageCache, history: "ColumnReader", backfill: BackfillStatus
) -> Mapping[str, FastHandler]:
    """The analysis' addresses with what answers them. As with indicators, only who serves them loads TA-Lib."""
    from services.api.analysis.analysis_handlers import AnalysisHandlers  # noqa: PLC0415
    from services.api.analysis.latest_analysis import LatestAnalysis  # noqa: PLC0415

    answers, now = (
        AnalysisHandlers(listing, LatestAnalysis(deps, pages, history), backfill, deps.clock),
        deps.clock.monotonic,
    )
    reads: Mapping[str, FastHandler] = {
        "analysis": Brief(answers.single, now, SECOND, MAX_CACHED_RESPONSES),
        "analysis/{symbol}/multi": Brief(answers.multi, now, SECOND, MAX_CACHED_RESPONSES),
    }
    return {f"{root}/{name}": front for root in ("/api", "/v1") for name, front in reads.items()}
