"""The health checks /livez and /readyz."""

import httpx
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from services import __version__
from services.adapters.memory import MemoryJournal
from services.core.errors import Unavailable
from services.runtime import SERVICES, component_checks, import_service, required_components
from services.web.health import health_router
from services.web.openapi import bare_app
from tests.deps import make_deps


class UnavailableJournal(MemoryJournal):
    """A journal whose server is down."""

    async def ping(self) -> None:
        raise Unavailable("the journal (Redis) does not respond")


def app_with(journal: MemoryJournal) -> Starlette:
    """Return the health endpoints of a process in memory that runs every service."""
    deps = make_deps(journal=journal)
    app = bare_app()
    needed = required_components(map(import_service, SERVICES))
    app.include_router(health_router(component_checks(deps), needed, CollectorRegistry()))
    return app


async def get(app: Starlette, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.get(path)


async def test_livez_has_the_version() -> None:
    response = await get(app_with(MemoryJournal()), "/livez")
    assert response.json() == {"status": "alive", "version": __version__}


async def test_process_with_every_service_is_ready_without_its_journal() -> None:
    response = await get(app_with(UnavailableJournal()), "/readyz")
    parts = response.json()["parts"]
    assert response.status_code == 200
    assert (parts["store"]["needed"], parts["journal"]["needed"]) == (True, False)
    assert {name: part["ok"] for name, part in parts.items()} == {
        "bus": True,
        "cache": True,
        "journal": False,
        "store": True,
    }
    assert parts["journal"]["detail"] == "the journal (Redis) does not respond"
