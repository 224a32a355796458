"""The indicators' addresses: described here, answered before any routing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from starlette.requests import HTTPConnection

from services.api.backfill_status import BackfillStatus
from services.api.candles.answers import Answers
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.routes import UNCHANGED, parameters
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.indicators import schemas
from services.ports import Deps
from services.web import Brief, FastHandler, front_answer

if TYPE_CHECKING:
    from services.api.indicators.column_reader import ColumnReader

router = APIRouter(tags=["indicators"])
CATALOG_TTL_MS = 3_600_000


@router.get("/v1/indicators", include_in_schema=False)
@router.get(
    "/api/indicators",
    operation_id="indicators",
    summary="Indicators beside their candles",
    response_model=schemas.Indicators,
    responses={304: UNCHANGED},
    openapi_extra=parameters(schemas.IndicatorsQuestion),
)
async def indicators(connection: HTTPConnection) -> Response:
    """Several at once, over up to 1,000 candles with openings in [from, to], the forming one included; without `from`
    the newest ones. A value never depends on where the range begins: the history that it needs is read as well.
    """
    return await front_answer(connection)


@router.get("/v1/indicators/catalog", include_in_schema=False)
@router.get(
    "/api/indicators/catalog",
    operation_id="indicators_catalog",
    summary="All indicators",
    response_model=schemas.Catalog,
    responses={304: UNCHANGED},
)
async def catalog(connection: HTTPConnection) -> Response:
    """Each with its parameters and their ranges, its outputs, its formula, who computes it and where it is drawn."""
    return await front_answer(connection)


def fronts(
    deps: Deps, listing: SymbolCatalog, pages: CandlePageCache, history: "ColumnReader", backfill: BackfillStatus
) -> Mapping[str, FastHandler]:
    """The indicators' addresses with what answers them. TA-Lib is loaded here: only who serves indicators needs it."""
    from services.api.indicators.catalog_handler import catalog as described  # noqa: PLC0415
    from services.api.indicators.indicator_page_cache import IndicatorPageCache  # noqa: PLC0415
    from services.api.indicators.indicator_service import IndicatorService  # noqa: PLC0415
    from services.api.indicators.indicators_handler import IndicatorsHandler  # noqa: PLC0415

    readings = IndicatorsHandler(
        deps, listing, history, backfill, IndicatorService(deps, history, IndicatorPageCache(deps))
    )
    reads: Mapping[str, FastHandler] = {
        "indicators": Answers(deps, readings.build),
        "indicators/catalog": Brief(described, deps.clock.monotonic, CATALOG_TTL_MS, 1),
    }
    return {f"{root}/{name}": front for root in ("/api", "/v1") for name, front in reads.items()}
