"""Rates: exact products of legs, offers compared, the wrong and the old never used."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.bounds import MAX_PRICE_EXPONENT
from services.core.errors import NothingFresh
from services.core.model import ExchangeStatus, FeedStatus, Instrument, InstrumentFeed, Leg, Quote, Rate, RejectReason
from services.core.rates import RateCalculator, Thresholds, find_outliers, multiply_legs
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


def apply_quotes(book: RateCalculator, time: int, exchanges: Iterable[str] = QUOTES, factor: str = "1") -> None:
    """Every instrument of these exchanges says its price at `time`, times `factor`."""
    for exchange in exchanges:
        for name, price in QUOTES[exchange].items():
            book.apply(Quote(exchange, Instrument.parse(name), time, price=Decimal(price) * Decimal(factor)))


def rates(book: RateCalculator, now: int) -> dict[str, Rate]:
    return {str(direction): book.rate(direction, now) for direction in SETTINGS.directions}


def active_exchange(book: RateCalculator, now: int) -> str:
    return select_exchange(rates(book, now), SETTINGS.directions, ORDER, now).exchange


def leg(value: Decimal, inverted: bool, spread: Decimal = Decimal(0)) -> Leg:
    low, high = value * (1 - spread), value * (1 + spread)
    return Leg("binance", BTC_USD, value, 0, 0, 0, True, inverted, low or None, high or None)


@given(st.lists(st.tuples(prices, st.booleans()), min_size=2, max_size=3))
def test_a_rate_is_the_product_of_its_legs(legs: list[tuple[Decimal, bool]]) -> None:
    value, bid, ask = multiply_legs(leg(price, inverted, Decimal("0.01")) for price, inverted in legs)
    exact = Fraction(1)
    for price, inverted in legs:
        exact = exact / Fraction(price) if inverted else exact * Fraction(price)
    assert abs(Fraction(value) / exact - 1) < Fraction(1, 10**15)
    assert bid is not None
    assert ask is not None
    assert bid <= value <= ask


@given(prices)
def test_a_direct_price_keeps_every_digit(price: Decimal) -> None:
    assert multiply_legs([leg(price, inverted=False)])[0] == price


def test_the_first_fresh_exchange_answers_for_everything() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 1_000)
    assert active_exchange(book, 2_000) == "binance"
    offers = {offer.exchange: offer.value for offer in book.rate(BTC_USD, 2_000).candidates}
    assert offers == {"binance": Decimal("99990.0"), "deribit": Decimal(100010), "coingecko": Decimal(100020)}


def test_silent_exchange_is_left_within_five_seconds_and_returns_when_steady() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    used = {}
    for now in range(1_000, 60_000, 500):
        apply_quotes(book, now, ["deribit", "coingecko"])
        if not 10_000 <= now < 20_000:
            apply_quotes(book, now, ["binance"])
        used[now] = active_exchange(book, now)
    assert used[14_500] == "binance"
    assert used[15_000] == "deribit"
    assert {used[now] for now in range(15_000, 35_000, 500)} == {"deribit"}
    assert {used[now] for now in range(35_000, 60_000, 500)} == {"binance"}


def test_unchanged_quote_is_fresh_only_while_its_collector_confirms_it() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    names = [Instrument.parse(name) for name in QUOTES["binance"]]
    for received, fresh in ((0, True), (500, False)):  # the second speaks of a value that never arrived here
        sources = tuple(InstrumentFeed(name, FeedStatus.LIVE, received, 9_000) for name in names)
        book.apply(ExchangeStatus("binance", 9_000, True, "socket", "", "", 0, 9_000, 0, False, sources))
        assert (book.rate(BTC_USD, 10_000).candidates[0].rejected is None) is fresh


def test_a_reference_that_repeats_what_it_said_long_ago_is_stale() -> None:
    book, rub, limit = (
        RateCalculator(CONFIGURED, ROUTES, Thresholds()),
        Instrument("USDT", "RUB"),
        Thresholds().max_reference_age_ms,
    )
    for now in range(0, 2 * limit, 20_000):
        apply_quotes(book, now)
        book.apply(Quote("coingecko", rub, now, time=0, price=Decimal(80)))
        fresh = book.rate(Instrument("BTC", "RUB"), now).candidates[0].rejected is None
        assert fresh is (now <= limit + 60_000)


@given(
    st.sampled_from(sorted(QUOTES)),
    st.integers(-MAX_PRICE_EXPONENT + 1, MAX_PRICE_EXPONENT - 1),
    st.integers(-MAX_PRICE_EXPONENT + 1, MAX_PRICE_EXPONENT - 1),
)
def test_no_price_is_too_absurd_to_be_judged(wrong: str, first: int, second: int) -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    for name, power in zip(QUOTES[wrong], (first, second) * 4, strict=False):
        book.apply(Quote(wrong, Instrument.parse(name), 0, price=Decimal(1).scaleb(power)))
    for direction in SETTINGS.directions:
        assert book.rate(direction, 100).candidates


@given(st.sampled_from(["binance", "deribit"]), st.sampled_from(["0.5", "0.9", "0.97", "1.03", "1.1", "7"]))
def test_a_wrong_price_is_never_used_and_its_exchange_comes_back(wrong: str, factor: str) -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    assert active_exchange(book, 100) == "binance"
    offers = [(d, offer) for d in SETTINGS.directions for offer in book.rate(d, 100).candidates]
    right = {d: offer.value for d, offer in offers if offer.exchange == "coingecko" and offer.value is not None}
    for now in range(1_000, 30_000, 500):
        apply_quotes(book, now)
        if now < 10_000:
            apply_quotes(book, now, [wrong], factor)
        chosen_now = select_exchange(rates(book, now), SETTINGS.directions, ORDER, now)
        for direction, offer in chosen_now.candidates.items():
            assert offer.value is not None
            assert abs(offer.value / right[direction] - 1) < Decimal("0.01")
        if now < 10_000:
            assert chosen_now.exchange != wrong
    assert chosen_now.exchange == "binance"


@given(st.sampled_from(sorted(QUOTES["coingecko"])), st.sampled_from(["0.5", "0.9", "1.1", "3"]))
def test_wrong_reference_leg_is_never_used_by_any_candidate(leg: str, factor: str) -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    right = {
        direction: offer.value
        for direction, offer in select_exchange(rates(book, 100), *EVERYTHING, 100).candidates.items()
    }
    for now in range(1_000, 90_000, 1_000):
        apply_quotes(book, now)
        price = Decimal(QUOTES["coingecko"][leg]) * Decimal(factor)
        book.apply(Quote("coingecko", Instrument.parse(leg), now, price=price))
        known = rates(book, now)
        for direction, expected in right.items():
            value = select_exchange(known, [direction], ORDER, now).candidates[direction].value
            assert value is not None
            assert expected is not None
            assert abs(value / expected - 1) < Decimal("0.01")


@pytest.mark.parametrize("factor", ["0.5", "0.9", "1.1", "3"])
def test_exchange_without_reference_legs_wins_over_a_wrong_reference(factor: str) -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    expected = select_exchange(rates(book, 100), [BTC_USD], ORDER, 100).candidates[BTC_USD].value
    for now in range(1_000, 90_000, 1_000):
        apply_quotes(book, now)
        apply_quotes(book, now, ["coingecko"], factor)
        pure = select_exchange(rates(book, now), [BTC_USD], ORDER, now)
        value = pure.candidates[BTC_USD].value
        assert pure.exchange == "deribit"
        assert value is not None
        assert expected is not None
        assert abs(value / expected - 1) < Decimal("0.01")


def test_at_the_start_two_of_three_are_believed() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    apply_quotes(book, 0, ["deribit"], "1.1")
    asides = {offer.exchange: offer.rejected for offer in book.rate(BTC_USD, 100).candidates}
    assert asides == {"binance": None, "deribit": RejectReason.OUTLIER, "coingecko": None}


def test_of_two_that_disagree_the_value_used_last_decides() -> None:
    values = {"binance": Decimal(110), "coingecko": Decimal(100)}
    assert find_outliers(values, Decimal(101), Decimal(200)) == {"binance"}
    assert find_outliers(values, Decimal(109), Decimal(200)) == {"coingecko"}
    assert find_outliers(values, None, Decimal(200)) == set()


def test_a_zero_or_empty_quote_is_no_price() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    dead = Quote("binance", Instrument("BTC", "USDT"), 0, bid=Decimal("0.00000000"), ask=Decimal("0.00000000"))
    book.apply(dead)
    assert book.rate(BTC_USD, 1).candidates[0].rejected is RejectReason.MISSING


def test_recovering_exchanges_are_better_than_the_older_reference() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    active_exchange(book, 0)
    assert active_exchange(book, 8_000) == "coingecko"  # nothing else is fresh
    apply_quotes(book, 9_000, ["binance", "deribit"])
    assert {o.rejected for o in book.rate(BTC_USD, 9_000).candidates} == {RejectReason.RECOVERING, None}
    assert active_exchange(book, 9_000) == "binance"


def test_with_nothing_fresh_every_exchange_says_why() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    with pytest.raises(NothingFresh, match=r"BTC-USDT from binance is \d+\.\d s old.*BTC-USD from deribit"):
        active_exchange(book, 1_000_000)


def test_restart_resumes_with_rates_of_the_same_market_only() -> None:
    book, restarted, simulated = (RateCalculator(CONFIGURED, ROUTES, Thresholds()) for _ in range(3))
    apply_quotes(book, 0)
    kept = rates(book, 60_000)
    restarted.restore(kept.values())
    assert rates(restarted, 60_000) == kept
    assert active_exchange(restarted, 60_000) == "coingecko"
    simulated.apply(ExchangeStatus("binance", 60_000, True, "socket", "", "", 0, 0, 0, simulated=True))
    apply_quotes(simulated, 60_000)
    restarted.restore(rates(simulated, 60_000).values())
    assert active_exchange(restarted, 60_000) == "binance"
    restarted.apply(ExchangeStatus("binance", 60_000, True, "socket", "", "", 0, 0, 0, simulated=False))
    assert {offer.rejected for offer in restarted.rate(BTC_USD, 60_000).candidates} == {RejectReason.MISSING}


def test_quotes_before_the_market_is_known_count_once_it_is() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds(), simulated=None)
    apply_quotes(book, 0)
    book.apply(ExchangeStatus("binance", 0, True, "socket", "", "", 0, 0, 0, simulated=True))
    assert active_exchange(book, 0) == "binance"
    assert book.rate(BTC_USD, 0).simulated


def test_direction_that_an_exchange_lacks_is_refused_only_by_name() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0, ["deribit"])
    known = rates(book, 100)
    given = select_exchange(known, SETTINGS.directions, ORDER, 100, partial=True)
    assert (given.exchange, set(map(str, given.candidates))) == ("deribit", {"BTC-USD", "ETH-USD"})
    assert "nothing yet of USDT-RUB from coingecko" in given.missing[Instrument("BTC", "RUB")]
    with pytest.raises(NothingFresh):
        select_exchange(known, [Instrument("BTC", "RUB")], ORDER, 100)


def test_switches_are_counted_with_their_reason() -> None:
    book = RateCalculator(CONFIGURED, ROUTES, Thresholds())
    apply_quotes(book, 0)
    choice = update_active(None, rates(book, 0), SETTINGS.directions, ORDER, 0)
    assert (choice.exchange, choice.failovers) == ("binance", 0)
    apply_quotes(book, 6_000, ["deribit", "coingecko"])
    choice = update_active(choice, rates(book, 6_000), SETTINGS.directions, ORDER, 6_000)
    assert (choice.exchange, choice.failovers, choice.since) == ("deribit", 1, 6_000)
    assert "BTC-USDT from binance is 6.0 s old" in choice.reason
    assert [switch.exchange for switch in choice.switches] == ["binance", "deribit"]
    for now in range(7_000, 30_000, 1_000):
        apply_quotes(book, now)
        choice = update_active(choice, rates(book, now), SETTINGS.directions, ORDER, now)
    assert (choice.exchange, choice.failovers) == ("binance", 1)
