"""One process's HTTP app: the routers of its services behind the edge."""

from urllib.parse import urlencode

from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.ports import Deps
from services.web import docs, problems
from services.web.app_spec import Later, Site, Stream
from services.web.client_address import Addresses
from services.web.cors import Pages
from services.web.edge import Edge
from services.web.health import router
from services.web.hosts import Hosts
from services.web.metrics import Requests
from services.web.openapi import description, framework


async def front_answer(connection: HTTPConnection) -> Response:
    """A ready answer's route: it describes the answer, waits for one that is not ready, and serves without the edge.

    What the path names is asked for as if the query did.
    """
    front: Later = connection.app.state.fronts[connection.scope["route"].path]
    query = b"&".join(filter(None, [connection.scope["query_string"], urlencode(connection.path_params).encode()]))
    question = query, dict(connection.scope["headers"])
    answer = front(*question) or await front.wait(*question)
    return Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers})


def stream_answer(connection: HTTPConnection) -> Response:
    """A stream's route: it describes the stream, and serves it without the edge."""
    return _Streaming(connection.app.state.streams[connection.url.path])


class _Streaming(Response):
    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream(scope, receive, send)


def create_app(deps: Deps, site: Site) -> ASGIApp:
    """The app of one process."""
    app = framework()
    problems.install(app)
    app.state.deps, app.state.fronts, app.state.streams = deps, site.fronts, site.streams
    registry, requests = CollectorRegistry(), Requests()
    registry.register(requests)
    app.include_router(router(site.checks, site.needed, registry))
    for routes in site.routers:
        app.include_router(routes)
    site = site._replace(
        addresses=Addresses(deps.settings.trusted_proxies),
        hosts=Hosts(deps.settings.allowed_hosts, deps.settings.host),
        fronts={**site.fronts, "/openapi.json": description(app), **docs.fronts(app.title)},
    )
    return Edge(app, site, deps.hub, Pages(deps.settings.cors_allowed_origins), requests)
