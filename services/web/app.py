"""One process's HTTP app: the endpoints and routers of its services behind the edge."""

from prometheus_client import CollectorRegistry

from services.ports import Deps
from services.web.app_spec import AppSpec
from services.web.client_address import ClientAddresses
from services.web.cors import CorsPolicy
from services.web.docs import DocsHandler
from services.web.edge import EdgeMiddleware
from services.web.endpoint import Endpoint, bind
from services.web.endpoint_server import make_servers
from services.web.health import health_router
from services.web.hosts import AllowedHosts
from services.web.openapi import OpenApiHandler, add_route, bare_app, described_only
from services.web.problems import install_error_handlers


def create_app(deps: Deps, spec: AppSpec) -> EdgeMiddleware:
    """Return the app of one process."""
    app, settings, registry = bare_app(), deps.settings, CollectorRegistry()
    install_error_handlers(app)
    app.state.deps = deps
    app.include_router(health_router(spec.checks, spec.needed, registry))
    for router in spec.routers:
        app.include_router(router)
    bindings = [*spec.endpoints, *bind(DocsHandler(app.title)), *bind(OpenApiHandler(app))]
    servers = make_servers(bindings, deps.clock, deps.hub)
    for server in servers:
        add_route(app, server.endpoint, server.respond)
    for binding in bindings:
        if not isinstance(binding.endpoint, Endpoint):
            add_route(app, binding.endpoint, described_only)  # the edge serves it
    spec = spec._replace(
        addresses=ClientAddresses(settings.trusted_proxies),
        hosts=AllowedHosts(settings.allowed_hosts, settings.host),
        cors=CorsPolicy(settings.cors_allowed_origins),
    )
    edge = EdgeMiddleware(app, spec, deps.hub, servers)
    registry.register(edge.histogram)
    return edge
