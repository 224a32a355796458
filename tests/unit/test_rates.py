"""Rates: exact products of legs; rate candidates that are stale or outliers are never used."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.bounds import MAX_PRICE_EXPONENT
from services.core.errors import NothingFresh
from services.core.model import ExchangeStatus, FeedStatus, Instrument, InstrumentFeed, Leg, Quote, Rate, RejectReason
from services.core.outliers import find_outliers
from services.core.rates import RateCalculator, Thresholds, multiply_legs
from services.core.selection import ExchangeOrder, select_exchange, update_active
from services.exchanges import REFERENCES, configured_exchanges, route_table
from services.settings import Settings

SETTINGS = Settings(_env_file=None)
ROUTES = route_table(SETTINGS)
CONFIGURED = configured_exchanges(SETTINGS)
BTC_USD = Instrument("BTC", "USD")
ORDER = ExchangeOrder(SETTINGS.exchanges, REFERENCES)
EVERYTHING = SETTINGS.directions, ORDER
QUOTES = {
    "binance": {"BTC-USDT": "100000", "ETH-USDT": "4000", "USDC-USDT": "1.0001"},
    "deribit": {"BTC-USD": "100010", "ETH-USD": "4001", "USDC-USDT": "1.0001"},
    "coingecko": {
        "BTC-USD": "100020",
        "BTC-RUB": "8001600",
        "ETH-USD": "4002",
        "ETH-RUB": "320160",
        "USDT-USD": "0.9999",
        "USDT-RUB": "79.992",
        "USDC-USD": "1",
        "USDC-RUB": "80",
    },
}
prices = st.decimals(min_value="0.00000001", max_value="1000000", places=8)


def apply_quotes(calculator: RateCalculator, time: int, exchanges: Iterable[str] = QUOTES, factor: str = "1") -> None:
    """Apply a quote of every instrument of these exchanges at `time`, its price multiplied by `factor`."""
    for exchange in exchanges:
        for name, price in QUOTES[exchange].items():
            calculator.apply(Quote(exchange, Instrument.parse(name), time, price=Decimal(price) * Decimal(factor)))


def rates(calculator: RateCalculator, now: int) -> dict[str, Rate]:
    return {str(direction): calculator.rate(direction, now) for direction in SETTINGS.directions}


def active_exchange(calculator: RateCalculator, now: int) -> str:
    return select_exchange(rates(calculator, now), SETTINGS.directions, ORDER, now).exchange


def leg(value: Decimal, inverted: bool, spread: Decimal = Decimal(0)) -> Leg:
    low, high = value * (1 - spread), value * (1 + spread)
    return Leg("binance", BTC_USD, value, 0, 0, 0, True, inverted, low or None, high or None)


@given(st.lists(st.tuples(prices, st.booleans()), min_size=2, max_size=3))
def test_rate_is_the_product_of_its_legs(legs: list[tuple[Decimal, bool]]) -> None:
    value, bid, ask = multiply_legs(leg(price, inverted, Decimal("0.01")) for price, inverted in legs)
    exact = Fraction(1)
    for price, inverted in legs:
        exact = exact / Fraction(price) if inverted else exact * Fraction(price)
    assert abs(Fraction(value) / exact - 1) < Fraction(1, 10**15)
    assert bid is not None
    assert ask is not None
    assert bid <= value <= ask


@given(prices)
def test_direct_price_keeps_every_digit(price: Decimal) -> None:
    assert multiply_legs([leg(price, inverted=False)])[0] == price


def test_active_exchange_is_the_first_fresh_one() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 1_000)
    assert active_exchange(calculator, 2_000) == "binance"
    candidates = {candidate.exchange: candidate.value for candidate in calculator.rate(BTC_USD, 2_000).candidates}
    assert candidates == {"binance": Decimal("99990.0"), "deribit": Decimal(100010), "coingecko": Decimal(100020)}


def test_silent_exchange_is_replaced_within_five_seconds_and_returns_when_steady() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    used = {}
    for now in range(1_000, 60_000, 500):
        apply_quotes(calculator, now, ["deribit", "coingecko"])
        if not 10_000 <= now < 20_000:
            apply_quotes(calculator, now, ["binance"])
        used[now] = active_exchange(calculator, now)
    assert used[14_500] == "binance"
    assert used[15_000] == "deribit"
    assert {used[now] for now in range(15_000, 35_000, 500)} == {"deribit"}
    assert {used[now] for now in range(35_000, 60_000, 500)} == {"binance"}


def test_unchanged_quote_is_fresh_only_while_its_collector_confirms_it() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    names = [Instrument.parse(name) for name in QUOTES["binance"]]
    for received, fresh in ((0, True), (500, False)):  # the second one confirms a value that never arrived here
        sources = tuple(InstrumentFeed(name, FeedStatus.LIVE, received, 9_000) for name in names)
        calculator.apply(ExchangeStatus("binance", 9_000, True, "socket", "", "", 0, 9_000, 0, False, sources))
        assert (calculator.rate(BTC_USD, 10_000).candidates[0].rejected is None) is fresh


def test_reference_that_repeats_an_old_value_becomes_stale() -> None:
    calculator, rub, limit = (
        RateCalculator(CONFIGURED, ROUTES, Thresholds()),
        Instrument("USDT", "RUB"),
        Thresholds().max_reference_age_ms,
    )
    for now in range(0, 2 * limit, 20_000):
        apply_quotes(calculator, now)
        calculator.apply(Quote("coingecko", rub, now, time=0, price=Decimal(80)))
        fresh = calculator.rate(Instrument("BTC", "RUB"), now).candidates[0].rejected is None
        assert fresh is (now <= limit + 60_000)


@given(
    st.sampled_from(sorted(QUOTES)),
    st.integers(-MAX_PRICE_EXPONENT + 1, MAX_PRICE_EXPONENT - 1),
    st.integers(-MAX_PRICE_EXPONENT + 1, MAX_PRICE_EXPONENT - 1),
)
def test_rate_is_computed_for_prices_of_any_magnitude(wrong: str, first: int, second: int) -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    for name, power in zip(QUOTES[wrong], (first, second) * 4, strict=False):
        calculator.apply(Quote(wrong, Instrument.parse(name), 0, price=Decimal(1).scaleb(power)))
    for direction in SETTINGS.directions:
        assert calculator.rate(direction, 100).candidates


@given(st.sampled_from(["binance", "deribit"]), st.sampled_from(["0.5", "0.9", "0.97", "1.03", "1.1", "7"]))
def test_wrong_price_is_never_used_and_its_exchange_returns_once_it_is_right(wrong: str, factor: str) -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    assert active_exchange(calculator, 100) == "binance"
    candidates = [(d, candidate) for d in SETTINGS.directions for candidate in calculator.rate(d, 100).candidates]
    right = {
        d: candidate.value
        for d, candidate in candidates
        if candidate.exchange == "coingecko" and candidate.value is not None
    }
    for now in range(1_000, 30_000, 500):
        apply_quotes(calculator, now)
        if now < 10_000:
            apply_quotes(calculator, now, [wrong], factor)
        chosen_now = select_exchange(rates(calculator, now), SETTINGS.directions, ORDER, now)
        for direction, candidate in chosen_now.candidates.items():
            assert candidate.value is not None
            assert abs(candidate.value / right[direction] - 1) < Decimal("0.01")
        if now < 10_000:
            assert chosen_now.exchange != wrong
    assert chosen_now.exchange == "binance"


@given(st.sampled_from(sorted(QUOTES["coingecko"])), st.sampled_from(["0.5", "0.9", "1.1", "3"]))
def test_wrong_reference_leg_is_never_used_by_any_candidate(leg: str, factor: str) -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    right = {
        direction: candidate.value
        for direction, candidate in select_exchange(rates(calculator, 100), *EVERYTHING, 100).candidates.items()
    }
    for now in range(1_000, 90_000, 1_000):
        apply_quotes(calculator, now)
        price = Decimal(QUOTES["coingecko"][leg]) * Decimal(factor)
        calculator.apply(Quote("coingecko", Instrument.parse(leg), now, price=price))
        known = rates(calculator, now)
        for direction, expected in right.items():
            value = select_exchange(known, [direction], ORDER, now).candidates[direction].value
            assert value is not None
            assert expected is not None
            assert abs(value / expected - 1) < Decimal("0.01")


@pytest.mark.parametrize("factor", ["0.5", "0.9", "1.1", "3"])
def test_exchange_without_reference_legs_wins_over_a_wrong_reference(factor: str) -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    expected = select_exchange(rates(calculator, 100), [BTC_USD], ORDER, 100).candidates[BTC_USD].value
    for now in range(1_000, 90_000, 1_000):
        apply_quotes(calculator, now)
        apply_quotes(calculator, now, ["coingecko"], factor)
        pure = select_exchange(rates(calculator, now), [BTC_USD], ORDER, now)
        value = pure.candidates[BTC_USD].value
        assert pure.exchange == "deribit"
        assert value is not None
        assert expected is not None
        assert abs(value / expected - 1) < Decimal("0.01")


def test_without_history_the_one_of_three_candidates_that_differs_is_the_outlier() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    apply_quotes(calculator, 0, ["deribit"], "1.1")
    rejections = {candidate.exchange: candidate.rejected for candidate in calculator.rate(BTC_USD, 100).candidates}
    assert rejections == {"binance": None, "deribit": RejectReason.OUTLIER, "coingecko": None}


def test_of_two_candidates_the_one_farther_from_the_last_used_value_is_the_outlier() -> None:
    values = {"binance": Decimal(110), "coingecko": Decimal(100)}
    assert find_outliers(values, Decimal(101), Decimal(200)) == {"binance"}
    assert find_outliers(values, Decimal(109), Decimal(200)) == {"coingecko"}
    assert find_outliers(values, None, Decimal(200)) == set()


def test_candidate_of_a_zero_quote_is_rejected_as_missing() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    dead = Quote("binance", Instrument("BTC", "USDT"), 0, bid=Decimal("0.00000000"), ask=Decimal("0.00000000"))
    calculator.apply(dead)
    assert calculator.rate(BTC_USD, 1).candidates[0].rejected is RejectReason.MISSING


def test_recovering_exchange_is_preferred_to_an_older_reference() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    active_exchange(calculator, 0)
    assert active_exchange(calculator, 8_000) == "coingecko"  # nothing else is fresh
    apply_quotes(calculator, 9_000, ["binance", "deribit"])
    assert {o.rejected for o in calculator.rate(BTC_USD, 9_000).candidates} == {RejectReason.RECOVERING, None}
    assert active_exchange(calculator, 9_000) == "binance"


def test_error_without_a_fresh_candidate_has_the_reason_of_each_exchange() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    with pytest.raises(NothingFresh, match=r"BTC-USDT from binance is \d+\.\d s old.*BTC-USD from deribit"):
        active_exchange(calculator, 1_000_000)


def test_restored_rates_are_used_only_in_their_market() -> None:
    calculator, restarted, simulated = (RateCalculator(CONFIGURED, ROUTES, Thresholds()) for _ in range(3))
    apply_quotes(calculator, 0)
    before_restart = rates(calculator, 60_000)
    restarted.restore(before_restart.values())
    assert rates(restarted, 60_000) == before_restart
    assert active_exchange(restarted, 60_000) == "coingecko"
    simulated.apply(ExchangeStatus("binance", 60_000, True, "socket", "", "", 0, 0, 0, simulated=True))
    apply_quotes(simulated, 60_000)
    restarted.restore(rates(simulated, 60_000).values())
    assert active_exchange(restarted, 60_000) == "binance"
    restarted.apply(ExchangeStatus("binance", 60_000, True, "socket", "", "", 0, 0, 0, simulated=False))
    assert {candidate.rejected for candidate in restarted.rate(BTC_USD, 60_000).candidates} == {RejectReason.MISSING}


def test_quotes_before_the_market_is_known_are_used_once_it_is() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds(), simulated=None)
    apply_quotes(calculator, 0)
    calculator.apply(ExchangeStatus("binance", 0, True, "socket", "", "", 0, 0, 0, simulated=True))
    assert active_exchange(calculator, 0) == "binance"
    assert calculator.rate(BTC_USD, 0).simulated


def test_direction_that_the_exchange_lacks_is_refused_only_if_requested_by_name() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0, ["deribit"])
    known = rates(calculator, 100)
    given = select_exchange(known, SETTINGS.directions, ORDER, 100, partial=True)
    assert (given.exchange, set(map(str, given.candidates))) == ("deribit", {"BTC-USD", "ETH-USD"})
    assert "nothing yet of USDT-RUB from coingecko" in given.missing[Instrument("BTC", "RUB")]
    with pytest.raises(NothingFresh):
        select_exchange(known, [Instrument("BTC", "RUB")], ORDER, 100)


def test_active_exchange_counts_switches_and_has_their_reason() -> None:
    calculator = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(calculator, 0)
    choice = update_active(None, rates(calculator, 0), SETTINGS.directions, ORDER, 0)
    assert (choice.exchange, choice.failovers) == ("binance", 0)
    apply_quotes(calculator, 6_000, ["deribit", "coingecko"])
    choice = update_active(choice, rates(calculator, 6_000), SETTINGS.directions, ORDER, 6_000)
    assert (choice.exchange, choice.failovers, choice.since) == ("deribit", 1, 6_000)
    assert "BTC-USDT from binance is 6.0 s old" in choice.reason
    assert [switch.exchange for switch in choice.switches] == ["binance", "deribit"]
    for now in range(7_000, 30_000, 1_000):
        apply_quotes(calculator, now)
        choice = update_active(choice, rates(calculator, now), SETTINGS.directions, ORDER, now)
    assert (choice.exchange, choice.failovers) == ("binance", 1)
