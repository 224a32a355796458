"""One process's HTTP app: the routers of its services behind the edge."""

from urllib.parse import urlencode

from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp

from services.ports import Deps
from services.web import problems
from services.web.cors import Pages
from services.web.edge import Edge
from services.web.health import router
from services.web.metrics import Requests
from services.web.schema import framework
from services.web.site import Later, Site


async def front_answer(connection: HTTPConnection) -> Response:
    """A ready answer's route: it describes the answer, waits for one that is not ready, and serves without the edge.

    What the path names is asked for as if the query did.
    """
    front: Later = connection.app.state.fronts[connection.scope["route"].path]
    query = b"&".join(filter(None, [connection.scope["query_string"], urlencode(connection.path_params).encode()]))
    question = query, dict(connection.scope["headers"])
    answer = front(*question) or await front.wait(*question)
    return Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers})


def create_app(deps: Deps, site: Site) -> ASGIApp:
    """The app of one process."""
    app = framework()
    problems.install(app)
    app.state.deps, app.state.fronts = deps, site.fronts
    registry, requests = CollectorRegistry(), Requests()
    registry.register(requests)
    app.include_router(router(site.checks, site.needed, registry))
    for routes in site.routers:
        app.include_router(routes)
    return Edge(app, site, deps.hub, Pages(deps.settings.cors_allowed_origins), requests)
