"""Wall clocks that are wrong or are set: of a collector, of the pricer, of a replica, of all of them.

Each has a wall clock of its own. All share the true time, by which prices grow, so that a response shows its age.
"""

import json
from dataclasses import dataclass
from decimal import Decimal

import httpx
import pytest

from services import api
from services.core.conversion import route_table
from services.core.model import ActiveExchange, ExchangeStatus, FeedStatus, InstrumentFeed, Quote, Rate
from services.core.rates import RateCalculator
from services.core.selection import ExchangeOrder, select_exchange
from services.exchanges import EXCHANGES, REFERENCES, instruments_to_collect
from services.ports import Deps
from services.pricer.jobs import thresholds
from services.pricer.pricing_engine import PricingEngine
from services.sequencing import sequenced_publisher
from services.settings import Settings
from services.web import AppSpec, create_app
from services.web.rate_limiter import ClientRateLimiter
from tests.deps import make_deps

SETTINGS = Settings(_env_file=None)
START_SECONDS = 1_800_000_000
HOUR, DAY = 3600, 86_400
SENDERS = ("binance", "deribit", "coingecko")
PARTS = (*SENDERS, "pricer", "replica")


@dataclass
class TrueTime:
    """The true time, in seconds since the start."""

    now: int = 0


class SteppedClock:
    """A process's clocks: the wall clock may be wrong."""

    def __init__(self, true_time: TrueTime) -> None:
        self.true_time, self.ahead = true_time, 0

    def now(self) -> int:
        return (START_SECONDS + self.true_time.now + self.ahead) * 1000

    def monotonic(self) -> int:
        return (self.true_time.now + 1_000) * 1000

    async def sleep(self, seconds: float) -> None:
        self.true_time.now += int(seconds)


class SteppedKurs:
    """Collectors, the pricer and a replica, each with clocks of its own. Each second they publish."""

    def __init__(self, **settings: int) -> None:
        self.settings = Settings(_env_file=None, **settings)  # type: ignore[arg-type]
        self.true_time = TrueTime()
        self.clocks = {name: SteppedClock(self.true_time) for name in PARTS}
        self.start_pricer([], None)
        self.start_replica()
        self.rates: dict[str, Rate] = {}
        self.choice: ActiveExchange | None = None

    def start_pricer(self, rates: list[Rate], choice: ActiveExchange | None) -> None:
        exchanges = [EXCHANGES[name] for name in SENDERS]
        routes = route_table(exchanges, self.settings.directions, self.settings.assets)
        calculator = RateCalculator(exchanges, routes, thresholds(self.settings))
        self.pricing = PricingEngine(self.settings, self._deps("pricer").clock, calculator)
        self.pricing.restore(rates, choice)

    def start_replica(self) -> None:
        self.replica = deps = self._deps("replica")
        self.limiter = ClientRateLimiter(settings=deps.settings, clock=deps.clock, cache=deps.cache)
        site = AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset(api.NEEDS), self.limiter)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(deps, site)), base_url="http://localhost"
        )

    def step(self, seconds: int, *parts: str) -> None:
        for name in parts:
            self.clocks[name].ahead += seconds

    def run_second(self, *, pricer: bool = True) -> None:
        """Let a second pass: the collectors collect, the pricer prices, the replica receives the messages."""
        self.true_time.now += 1
        for exchange in SENDERS:
            self._collect(exchange)
        for message in self.pricing.updates(everything=True) if pricer else ():
            self.replica.hub.apply(message)
            if isinstance(message, Rate):
                self.rates[str(message.direction)] = message
            else:
                self.choice = message
        for exchange in SENDERS:
            self.replica.hub.apply(self.states[exchange])

    def _collect(self, exchange: str) -> None:
        now = self.clocks[exchange].now()
        instruments = instruments_to_collect(exchange, self.settings)
        for instrument in instruments:
            price = Decimal(1) if instrument.base.startswith("USD") else Decimal(100_000 + self.true_time.now)
            self.pricing.apply(Quote(exchange, instrument, now, price=price * (80 if instrument.quote == "RUB" else 1)))
        sources = tuple(InstrumentFeed(instrument, FeedStatus.LIVE, now, now) for instrument in instruments)
        self.states = {
            **getattr(self, "states", {}),
            exchange: ExchangeStatus(exchange, now, True, "socket", "", "", now, now, 0, False, sources),
        }
        self.pricing.apply(self.states[exchange])

    def _deps(self, name: str) -> Deps:
        return make_deps(self.settings, clock=self.clocks[name])

    async def get_rate(self) -> "ServedRate":
        answer = await self.client.get("/v2/courses?direction=BTC-USD")
        body = json.loads(answer.text, parse_float=Decimal)
        if answer.status_code != 200:
            return ServedRate(answer.status_code, body["detail"])
        (course,) = body["courses"]
        priced = Decimal(course["value"]) - 100_000
        clocks = (
            self.clocks["replica"],
            self.clocks["pricer"],
        )  # if one is wrong, the response has the time of the other
        since = min((clock.now() - body["time"] for clock in clocks), key=abs)  # ages are as of the response's time
        return ServedRate(200, body["exchanger"], int(self.true_time.now - priced), (course["age_ms"] + since) / 1000)


@dataclass
class ServedRate:
    """A response for BTC-USD: the true age of the price and the reported one, in seconds."""

    status: int
    text: str
    true_age: int = 0
    reported_age: float = 0


@pytest.fixture
def kurs() -> SteppedKurs:
    kurs = SteppedKurs()
    for _ in range(20):
        kurs.run_second()
    return kurs


STEPS = pytest.mark.parametrize("step", [-HOUR, HOUR, DAY, -DAY], ids=lambda step: f"{step:+d}s")


@pytest.mark.parametrize("step", [-HOUR, DAY])
@pytest.mark.parametrize("part", ["pricer", "replica"])
async def test_pricer_or_replica_with_a_wrong_clock_serves_nothing_stale_and_recovers(
    kurs: SteppedKurs, step: int, part: str
) -> None:
    assert (await kurs.get_rate()).text == "binance"
    kurs.step(step, part)
    for passed in range(1, 130):
        kurs.run_second()
        answer = await kurs.get_rate()
        if answer.status == 200:
            assert passed <= 120
            assert abs(answer.reported_age - answer.true_age) <= 1
        else:
            assert passed > 5
            way = "ahead of" if (step > 0) == (part == "pricer") else "behind"
            assert f"the pricer's stamps are {abs(step)} s {way} this process's clock" in answer.text
    assert answer.status == 503
    kurs.step(-step, part)
    kurs.run_second()
    kurs.run_second()
    answer = await kurs.get_rate()
    assert (answer.status, answer.true_age) == (200, 0)


@STEPS
async def test_clients_see_nothing_of_a_step_of_all_clocks(kurs: SteppedKurs, step: int) -> None:
    for _ in range(2):
        kurs.step(step, *PARTS)
        for _ in range(10):
            kurs.run_second()
            answer = await kurs.get_rate()
            assert (answer.status, answer.text) == (200, "binance")
            assert answer.true_age <= 1
            assert answer.reported_age <= 1
        step = -step


@STEPS
async def test_exchange_is_replaced_while_its_collector_has_a_wrong_clock(kurs: SteppedKurs, step: int) -> None:
    kurs.step(step, "binance")
    for _ in range(8):
        kurs.run_second()
        answer = await kurs.get_rate()
        assert (answer.status, answer.true_age <= 5) == (200, True)
    assert answer.text == "deribit"
    other = (await kurs.client.get("/v2/courses?direction=BTC-USD")).json()["courses"][0]["others"][0]
    assert "clock: binance's stamps are" in other["reason"]
    exchanges = (await kurs.client.get("/v1/exchanges")).json()["exchanges"]
    assert "clock: binance's stamps are" in exchanges[0]["reason"]
    kurs.step(-step, "binance")
    for _ in range(20):
        kurs.run_second()
    answer = await kurs.get_rate()
    assert (answer.status, answer.text, answer.true_age) == (200, "binance", 0)


async def test_rates_stamped_in_the_future_are_ignored_after_a_restart(kurs: SteppedKurs) -> None:
    kurs.step(DAY, *PARTS)
    for _ in range(5):
        kurs.run_second()
    rates = list(kurs.rates.values())
    assert kurs.choice
    kurs.step(-DAY, *PARTS)
    kurs.start_pricer(rates, kurs.choice)
    kurs.start_replica()
    kurs.replica.hub.restore([*rates, kurs.choice])
    assert (await kurs.get_rate()).status == 503
    assert not kurs.replica.hub.rates
    kurs.run_second()
    answer = await kurs.get_rate()
    assert (answer.status, answer.true_age) == (200, 0)
    assert kurs.choice.since <= kurs.clocks["pricer"].now()


async def test_clocks_that_differ_by_two_seconds_are_accepted(kurs: SteppedKurs) -> None:
    kurs.step(2, "binance", "replica")
    kurs.step(-1, "pricer")
    kurs.run_second()
    for _ in range(30):
        kurs.run_second()
        answer = await kurs.get_rate()
        assert answer.status == 200
        assert answer.true_age <= 5


async def test_replica_reports_its_exchange_and_the_age_of_the_pricers_last_message(kurs: SteppedKurs) -> None:
    for _ in range(30):
        kurs.run_second(pricer=False)
        response = (await kurs.client.get("/v1/exchanges")).json()
        everything = select_exchange(
            kurs.replica.hub.rates,
            SETTINGS.directions,
            ExchangeOrder(SETTINGS.exchanges, REFERENCES),
            kurs.clocks["replica"].monotonic(),
            partial=True,
        ).exchange
        courses = (await kurs.client.get("/v1/courses")).json()["exchanger"]
        assert response["in_use"]["exchange"] == courses == everything
        assert response["exchanges"][0]["heard_age_ms"] == 0
    assert courses == "coingecko"
    assert "BTC-USDT from binance is 30.0 s old" in response["in_use"]["reason"]
    assert response["in_use"]["since"] is None
    assert response["in_use"]["pricer"]["exchange"] == "binance"
    assert response["in_use"]["pricer"]["age_ms"] == 30_000
    kurs.run_second()
    response = (await kurs.client.get("/v1/exchanges")).json()["in_use"]
    assert (response["exchange"], response["pricer"]["age_ms"], response["since"] is None) == ("binance", 0, False)


async def test_clock_step_neither_blocks_a_client_nor_doubles_its_quota() -> None:
    for step in (-HOUR, HOUR, DAY):
        kurs = SteppedKurs(courses_rate_limit=3)
        kurs.run_second()
        served = []
        for second in range(180):
            if second == 30:
                kurs.step(step, *PARTS)
            kurs.run_second()
            answer = await kurs.client.get("/v1/courses")
            served.append(answer.status_code == 200)
            if not served[-1]:
                assert 0 < int(answer.headers["retry-after"]) <= 60
        assert 9 <= sum(served) <= 12, "3 a minute in three minutes and a bit"


@pytest.mark.parametrize("step", [-DAY, -HOUR, HOUR, DAY])
async def test_replica_reports_the_age_of_rates_after_a_clock_step(kurs: SteppedKurs, step: int) -> None:
    before = int((await kurs.client.get("/v1/courses")).headers["kurs-as-of"])
    kurs.step(step, "replica")
    for seconds in range(1, 4):
        kurs.run_second()
        answer = await kurs.client.get("/v1/courses")
        assert answer.status_code == 200
        assert before <= int(answer.headers["kurs-as-of"]) <= before + seconds * 1000
    kurs.step(-step, "replica")
    kurs.run_second()
    assert int((await kurs.client.get("/v1/courses")).headers["kurs-as-of"]) == before + 4_000


async def test_events_keep_time_and_order_over_clock_steps() -> None:
    kurs = SteppedKurs()
    deps = kurs.replica
    publisher, numbers, times = sequenced_publisher(deps), list[int](), list[int]()
    for step in (0, DAY, -DAY, -HOUR, HOUR):
        kurs.step(step, "replica")
        kurs.true_time.now += 1
        time = deps.clock.now()
        await publisher.publish(ActiveExchange(time, None, time, f"at {time}"))
        (newest,) = await deps.journal.latest("choice")
        assert newest
        numbers.append(newest.seq)
        times.append(newest.time - time)
    assert times == [0] * 5
    assert numbers == sorted(set(numbers))
    read = await deps.journal.read_after("choice", numbers[0], 10)
    assert read
    assert [entry.seq for entry in read] == numbers[1:]
