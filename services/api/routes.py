"""What is no endpoint: the redirect to the documentation, and the check of readiness."""

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import RedirectResponse

from services.api.jobs import require_fresh_rates
from services.ports import Deps
from services.web import Check

router = APIRouter()


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Show the documentation to a browser that opens the bare address."""
    return RedirectResponse("docs")


def checks(deps: Deps) -> Mapping[str, Check]:
    """Return the check that some exchange is fresh enough to respond with."""

    async def rates() -> None:
        require_fresh_rates(deps)

    return {"rates": rates}
