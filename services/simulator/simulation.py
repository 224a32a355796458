"""The simulator of one app: its market, its faults and its ledger, made when first asked for."""

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
    """All that the simulator keeps."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        file = settings.simulator_replay
        replay = ReplayTape(read_replay(file), clock.now(), settings.simulator_speed) if file else None
        self.market = SimulatedMarket(settings.simulator_seed, replay)
        self.faults = ActiveFaults(clock)
        self.hosts, self.allowed_origins = (
            AllowedHosts(settings.allowed_hosts, settings.host),
            settings.cors_allowed_origins,
        )
        self.ledger = SentLedger()
        self.sockets: set[SimulatedSocket] = set()
        self.request_counts: Counter[str] = Counter()
        self.binance_weights = WindowBudget(limit=6000, window=60_000)
        self.coingecko_calls = WindowBudget(limit=500, window=60_000)
        self.connection_attempts = {"binance": WindowBudget(limit=300, window=300_000)}

    def now(self) -> int:
        """The market's time: ms since the epoch."""
        return self.clock.now()


def simulation_of(connection: HTTPConnection) -> Simulation:
    """The app's simulator."""
    state = connection.app.state
    if not hasattr(state, "simulation"):
        deps: Deps = state.deps
        state.simulation = Simulation(deps.settings, deps.clock)
    found: Simulation = state.simulation
    return found
