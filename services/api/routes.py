"""The API's routes, and the answers that are kept ready before any routing."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from services.api import schemas
from services.api.analysis import routes as analysis
from services.api.backfill_status import BackfillStatus
from services.api.candles import routes as candles
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.candles.symbol_catalog import SymbolCatalog
from services.api.courses import CoursesHandler
from services.api.indicators import routes as indicators
from services.api.jobs import require_fresh_rates
from services.api.overview import routes as overview
from services.api.streams import routes as streams
from services.ports import Deps
from services.web import Check, FastHandler, front_answer

router = APIRouter(tags=["rates"])
CommaList = Annotated[str | None, Query(description="A comma list", max_length=2000)]


@router.get("/courses", include_in_schema=False)
@router.get(
    "/v1/courses",
    operation_id="courses_v1",
    summary="Current rates from one exchanger",
    response_model=schemas.CoursesV1,
    responses={304: overview.UNCHANGED},
)
async def courses_v1(
    connection: HTTPConnection,
    direction: CommaList = None,
    base: CommaList = None,
    quote: CommaList = None,
    exchanger: CommaList = None,
) -> Response:
    """One exchanger for the whole answer: the first in order that is fresh for all that was asked."""
    return await front_answer(connection)


@router.get(
    "/v2/courses",
    operation_id="courses_v2",
    summary="Current rates with age and origin",
    response_model=schemas.Courses,
    responses={304: overview.UNCHANGED},
)
async def courses_v2(
    connection: HTTPConnection,
    direction: CommaList = None,
    base: CommaList = None,
    quote: CommaList = None,
    exchanger: CommaList = None,
) -> Response:
    """The same, with the legs of each rate, their ages, and what the other exchanges say."""
    return await front_answer(connection)


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Who opens the address alone in a browser wants to see what there is."""
    return RedirectResponse("docs")


def fronts(deps: Deps) -> Mapping[str, FastHandler]:
    """The paths whose answers are kept ready."""
    first, second = CoursesHandler(deps, 1).answer, CoursesHandler(deps, 2).answer
    mine = {"/v1/courses": first, "/courses": first, "/v2/courses": second}
    return {**mine, **overview.fronts(deps), **_of_candles(deps), **streams.fronts(deps)}


def _of_candles(deps: Deps) -> Mapping[str, FastHandler]:
    """Candles, and what is computed from them. TA-Lib is loaded here: only who serves indicators needs it."""
    from services.api.indicators.column_reader import ColumnReader  # noqa: PLC0415

    listing, pages, backfill = SymbolCatalog(deps), CandlePageCache(deps), BackfillStatus(deps)
    history = ColumnReader(deps, pages)
    asked = deps, listing, pages
    computed = {**indicators.fronts(*asked, history, backfill), **analysis.fronts(*asked, history, backfill)}
    return {**candles.fronts(*asked, backfill), **computed}


def checks(deps: Deps) -> Mapping[str, Check]:
    """A replica is ready while some exchange is fresh enough to answer with."""

    async def rates() -> None:
        require_fresh_rates(deps)

    return {"rates": rates}
