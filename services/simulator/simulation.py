"""The simulator of one app: its market, its faults and its ledger, made when first asked for."""

from collections import Counter

from starlette.requests import HTTPConnection

from services.ports import Clock, Deps
from services.settings import Settings
from services.simulator.faults import Faults
from services.simulator.ledger import Ledger
from services.simulator.limits import Budget
from services.simulator.market.replay import ReplayTape, read
from services.simulator.market.simulated_market import Market
from services.simulator.simulated_socket import Line
from services.web import Hosts


class Simulation:
    """All that the simulator keeps."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        file = settings.simulator_replay
        replay = ReplayTape(read(file), clock.now(), settings.simulator_speed) if file else None
        self.market = Market(settings.simulator_seed, replay)
        self.faults = Faults(clock)
        self.hosts, self.pages = Hosts(settings.allowed_hosts, settings.host), settings.cors_allowed_origins
        self.ledger = Ledger()
        self.lines: set[Line] = set()
        self.requests: Counter[str] = Counter()
        self.weights = Budget(limit=6000, window=60_000)
        self.calls = Budget(limit=500, window=60_000)
        self.connects = {"binance": Budget(limit=300, window=300_000)}

    def now(self) -> int:
        """The market's time: ms since the epoch."""
        return self.clock.now()


def simulation(connection: HTTPConnection) -> Simulation:
    """The app's simulator."""
    state = connection.app.state
    if not hasattr(state, "simulation"):
        deps: Deps = state.deps
        state.simulation = Simulation(deps.settings, deps.clock)
    found: Simulation = state.simulation
    return found
