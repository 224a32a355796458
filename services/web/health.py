"""`/livez`, `/readyz` and `/metrics`: whether a process runs and is ready, and what it has counted."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Response
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel

from services import __version__
from services.core.errors import KursError

Check = Callable[[], Awaitable[str | None]]
"""May return a detail about the component. Raises a KursError that says what is wrong."""

CHECK_TIMEOUT_SECONDS = 2


class Alive(BaseModel):
    """The process runs."""

    status: str = "alive"
    version: str = __version__


class Part(BaseModel):
    """One part that this process needs or uses."""

    ok: bool
    needed: bool
    detail: str = ""


class Ready(BaseModel):
    """Whether this process can do its work, part by part."""

    ready: bool
    parts: dict[str, Part]


def health_router(checks: Mapping[str, Check], needed: frozenset[str], registry: CollectorRegistry) -> APIRouter:
    """`/livez`, `/readyz` and `/metrics`. Only the parts in `needed` make the process unready."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", operation_id="livez", summary="The process runs")
    async def livez() -> Alive:
        return Alive()

    @routes.get(
        "/readyz", operation_id="readyz", summary="The process can do its work", responses={503: {"model": Ready}}
    )
    async def readyz(response: Response) -> Ready:
        parts = dict(
            zip(checks, await asyncio.gather(*(_run_check(checks[n], n in needed) for n in checks)), strict=True)
        )
        ready = all(part.ok or not part.needed for part in parts.values())
        response.status_code = 200 if ready else 503
        response.headers["cache-control"] = "no-store"
        return Ready(ready=ready, parts=parts)

    @routes.get("/metrics", operation_id="metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        text = generate_latest(registry) + generate_latest(REGISTRY)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return routes


async def _run_check(check: Check, needed: bool) -> Part:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            detail = await check()
    except TimeoutError:
        return Part(ok=False, needed=needed, detail=f"no response within {CHECK_TIMEOUT_SECONDS} s")
    except KursError as error:
        return Part(ok=False, needed=needed, detail=str(error))
    return Part(ok=True, needed=needed, detail=detail or "")
