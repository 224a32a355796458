"""State of one app's simulator: its market, faults, ledger and connections, made on the first request."""

from collections import Counter

from starlette.requests import HTTPConnection

from services.ports import Clock, Deps
from services.settings import Settings
from services.simulator.faults import ActiveFaults
from services.simulator.ledger import SentLedger
from services.simulator.limits import WindowBudget
from services.simulator.market.replay import ReplayTape, read_replay
from services.simulator.market.simulated_market import SimulatedMarket
from services.simulator.simulated_socket import SimulatedSocket
from services.web import AllowedHosts


class Simulation:
    """State of a simulator."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        file = settings.simulator_replay
        replay = ReplayTape(read_replay(file), clock.now(), settings.simulator_speed) if file else None
        self.market = SimulatedMarket(settings.simulator_seed, replay)
        self.faults = ActiveFaults(clock)
        self.hosts = AllowedHosts(settings.allowed_hosts, settings.host)
        self.allowed_origins = settings.cors_allowed_origins
        self.ledger = SentLedger()
        self.sockets: set[SimulatedSocket] = set()
        self.request_counts: Counter[str] = Counter()
        self.binance_weights = WindowBudget(limit=6000, window=60_000)
        self.coingecko_calls = WindowBudget(limit=500, window=60_000)
        self.connection_attempts = {"binance": WindowBudget(limit=300, window=300_000)}

    def now(self) -> int:
        """Return the market's time in ms since the epoch."""
        return self.clock.now()


def simulation_of(connection: HTTPConnection) -> Simulation:
    """Return the simulator of the app that serves this connection."""
    state = connection.app.state
    if not hasattr(state, "simulation"):
        deps: Deps = state.deps
        state.simulation = Simulation(deps.settings, deps.clock)
    simulation: Simulation = state.simulation
    return simulation
