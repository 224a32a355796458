"""One process's HTTP app: the routers of its services behind the edge."""

from urllib.parse import urlencode

from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.ports import Deps
from services.web import docs, problems
from services.web.app_spec import AppSpec, AsyncFastHandler, StreamApp
from services.web.client_address import ClientAddresses
from services.web.cors import CorsPolicy
from services.web.edge import EdgeMiddleware
from services.web.health import health_router
from services.web.hosts import AllowedHosts
from services.web.metrics import RequestHistogram
from services.web.openapi import bare_app, openapi_handler


async def front_answer(connection: HTTPConnection) -> Response:
    """A ready answer's route: it describes the answer, waits for one that is not ready, and serves without the edge.

    What the path names is asked for as if the query did.
    """
    front: AsyncFastHandler = connection.app.state.fronts[connection.scope["route"].path]
    query = b"&".join(filter(None, [connection.scope["query_string"], urlencode(connection.path_params).encode()]))
    question = query, dict(connection.scope["headers"])
    answer = front(*question) or await front.wait(*question)
    return Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers})


def stream_answer(connection: HTTPConnection) -> Response:
    """A stream's route: it describes the stream, and serves it without the edge."""
    return _Streaming(connection.app.state.streams[connection.url.path])


class _Streaming(Response):
    def __init__(self, stream: StreamApp) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream(scope, receive, send)


def create_app(deps: Deps, site: AppSpec) -> ASGIApp:
    """The app of one process."""
    app = bare_app()
    problems.install_error_handlers(app)
    app.state.deps, app.state.fronts, app.state.streams = deps, site.fronts, site.streams
    registry, requests = CollectorRegistry(), RequestHistogram()
    registry.register(requests)
    app.include_router(health_router(site.checks, site.needed, registry))
    for routes in site.routers:
        app.include_router(routes)
    site = site._replace(
        addresses=ClientAddresses(deps.settings.trusted_proxies),
        hosts=AllowedHosts(deps.settings.allowed_hosts, deps.settings.host),
        fronts={**site.fronts, "/openapi.json": openapi_handler(app), **docs.fronts(app.title)},
    )
    return EdgeMiddleware(app, site, deps.hub, CorsPolicy(deps.settings.cors_allowed_origins), requests)
