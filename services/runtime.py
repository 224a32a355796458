"""The composition root: runs services in one process, and stops them gracefully on a signal."""

import asyncio
import gc
import importlib
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from ssl import SSLContext
from types import ModuleType
from typing import Any, NamedTuple

from services.adapters.retry import retry_until_available
from services.bootstrap import open_adapters
from services.clock_steps import report_clock_steps
from services.core.errors import Misconfigured
from services.core.markets import LIVE, SIMULATED, Market
from services.exchanges import configured_exchanges, simulated_exchanges
from services.listeners import bind, tls_listener
from services.ports import Deps
from services.roles import Role
from services.settings import Settings
from services.watchdog import watch_event_loop
from services.web import AppSpec, Composition, create_app
from services.web.connections import connection_limit
from services.web.health import Check
from services.web.rate_limiter import ClientRateLimiter
from services.web.server import Server, server_config

SERVICES = ("collector", "pricer", "writer", "analyst", "accounts", "api", "simulator")
REACHABILITY_TIMEOUT_SECONDS = 4
logger = logging.getLogger(__name__)


class ProcessSpec(NamedTuple):
    """The services that a process runs, and the exchanges of its collector."""

    services: tuple[str, ...]
    exchanges: tuple[str, ...]


def import_service(name: str) -> ModuleType:
    """Import a service, or a module of one. A process loads only the services that it runs."""
    return importlib.import_module(f"services.{name}")


async def run(settings: Settings, process: ProcessSpec) -> int:
    """Run the process until SIGINT or SIGTERM (0), or until a job fails (1)."""
    listener = bind(settings)
    own = settings.own_url(listener.getsockname()[1])
    root = own + "/simulator"
    settings = settings.model_copy(update={"public_url": settings.public_url or own})
    market = await _resolve_market(settings, process)
    process = process._replace(services=_with_simulator(process.services, settings, market))
    exchanges = tuple(exchange for exchange in configured_exchanges(settings) if exchange.name in process.exchanges)
    if market == SIMULATED:
        exchanges = simulated_exchanges(exchanges, settings.simulator_url or root)
    for name in process.services:
        import_service(name)  # half a second, before anything waits for this process
    secured = tls_listener(settings) if "simulator" in process.services else {}
    listeners = {**secured, listener: None}  # in this order: when the last port is open, all are
    async with AsyncExitStack() as stack:
        deps = await open_adapters(settings, market, exchanges, stack, owns="writer" in process.services)
        stack.enter_context(watch_event_loop())
        return await _serve(deps, process, listeners)


async def _resolve_market(settings: Settings, process: ProcessSpec) -> Market:
    """Return the configured market. `auto` probes the exchanges only in a process that runs alone: others could get
    another result.
    """
    if settings.market != "auto":
        return settings.market
    if "collector" not in process.services or not settings.in_memory:
        return LIVE
    why = await import_service("collector.reachability").unreachable_reason(
        configured_exchanges(settings), settings, REACHABILITY_TIMEOUT_SECONDS
    )
    if why is None:
        return LIVE
    logger.warning("market: no exchange can be reached: %s", why)
    logger.warning("market: SIMULATED: these are not the rates of any real market")
    return SIMULATED


def _with_simulator(services: tuple[str, ...], settings: Settings, market: Market) -> tuple[str, ...]:
    needed = market == SIMULATED and not settings.simulator_url and "collector" in services
    return (*services, "simulator") if needed and "simulator" not in services else services


async def _serve(deps: Deps, process: ProcessSpec, listeners: dict[socket.socket, SSLContext | None]) -> int:
    """Serve and run the jobs. Stop in order: no new requests, then the jobs, then (in the caller) the connections."""
    modules = [import_service(name) for name in process.services]
    roles = _build_roles(deps, modules)
    serves_api = "api" in process.services
    quota = ClientRateLimiter(settings=deps.settings, clock=deps.clock, cache=deps.cache) if serves_api else None
    limit = connection_limit(deps.settings.websocket_max_connections)
    composed = [module.compose(deps) for module in modules if hasattr(module, "compose")]
    app = create_app(deps, _build_app_spec(deps, modules, composed, roles, quota))
    servers = {listener: Server(server_config(app, limit, tls)) for listener, tls in listeners.items()}
    serving = [
        asyncio.create_task(server.serve(sockets=[listener]), name="server") for listener, server in servers.items()
    ]
    free = [module.JOBS for module in modules if not hasattr(module, "ROLE")]
    jobs = [asyncio.create_task(job(deps), name=job.__qualname__) for job in chain.from_iterable(free)]
    jobs += [asyncio.create_task(job(), name=job.__qualname__) for each in composed for job in each.jobs]
    jobs += [asyncio.create_task(role.run(), name=role.name) for role in roles]
    jobs.append(asyncio.create_task(report_clock_steps(deps.clock), name="clock"))
    if required_components(modules):
        checks = [check for each in composed for check in each.on_start]
        jobs.append(asyncio.create_task(_end_if_refused(deps, checks), name="servers"))
    if quota:
        jobs.append(asyncio.create_task(quota.sync(), name="quota"))
    stop = asyncio.create_task(_wait_for_signal(), name="signal")
    port = next(reversed(listeners)).getsockname()[1]
    logger.info("started: %s on port %d", " ".join(process.services), port)
    if "api" in process.services:
        url = deps.settings.public_url
        logger.info("api: current rates at %s/v1/courses, documentation at %s/docs", url, url)
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)  # rarely: long-lived objects are frozen, and a collection delays responses
    done, _ = await asyncio.wait([stop, *serving, *jobs], return_when=asyncio.FIRST_COMPLETED)
    deps.hub.close()
    for server in servers.values():
        server.should_exit = True
    await asyncio.wait(serving)
    for task in (stop, *jobs):
        task.cancel()
    await asyncio.gather(stop, *jobs, return_exceptions=True)
    return 0 if stop in done else exit_code(done)


def _build_roles(deps: Deps, modules: Sequence[ModuleType]) -> list[Role]:
    """Build the roles of the services. With a bus in memory they are one role: parts could not reach each other."""
    alone = [module for module in modules if hasattr(module, "ROLE")]
    if alone and deps.settings.in_memory:
        return [
            Role(import_service("writer").ROLE, [job for module in alone for job in module.JOBS], deps, writes=True)
        ]
    return [Role(module.ROLE, module.JOBS, deps, writes="store" in required_components([module])) for module in alone]


async def _end_if_refused(deps: Deps, on_start: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Wait for the servers, then run what services do at their start, one after the other.

    Raises Misconfigured if a server refuses this process or one of these fails, because waiting would not help.
    """
    await asyncio.gather(*map(retry_until_available, (deps.bus.ping, deps.cache.ping, deps.store.check)))
    for start in on_start:
        await retry_until_available(start)
    await asyncio.Event().wait()


def required_components(services: Iterable[ModuleType]) -> frozenset[str]:
    """Return the components without which a process with these services is not ready.

    The cache and the journal are none. All replicas share them, so that their failure would end all rates, where now it
    costs a client that resumes a stream a reset.
    """
    return frozenset(component for service in services for component in getattr(service, "NEEDS", ("bus",)))


def exit_code(done: set[asyncio.Task[Any]]) -> int:
    """Log why tasks ended, and return 1. Raises Misconfigured, which a restart would not fix."""
    for task in done:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Misconfigured):
            raise error
        logger.critical("job %s ended, so the process ends", task.get_name(), exc_info=error)
    return 1


async def _wait_for_signal() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    logger.info("stopping")


def _build_app_spec(
    deps: Deps,
    modules: Sequence[ModuleType],
    composed: Sequence[Composition],
    roles: Sequence[Role],
    quota: ClientRateLimiter | None,
) -> AppSpec:
    """Collect what the services serve.

    A service has JOBS, and optionally ROUTERS, CHECKS, NEEDS (components without which it is not ready), `compose`
    (endpoints, with the jobs that share objects with them) and ROLE (only one process may run its jobs).
    """
    checks = component_checks(deps)
    checks |= {f"role {role.name}": role.check for role in roles}
    endpoints = [endpoint for each in composed for endpoint in each.endpoints]
    for module in modules:
        checks |= getattr(module, "CHECKS", _no_checks)(deps)
    needed = required_components(modules)
    if "saving" in needed:
        checks["saving"] = deps.store.check_writable
    routers = [router for module in modules for router in getattr(module, "ROUTERS", ())]
    authenticator = next((each.authenticator for each in composed if each.authenticator), None)
    return AppSpec(routers, endpoints, checks, needed, quota, authenticator=authenticator)


def component_checks(deps: Deps) -> dict[str, Check]:
    """Return the checks of a process's ports for /readyz, by component."""
    return {"bus": deps.bus.ping, "cache": deps.cache.ping, "journal": deps.journal.ping, "store": deps.store.ping}


def _no_checks(_deps: Deps) -> dict[str, Any]:
    return {}
