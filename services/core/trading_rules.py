"""Trading rules: which prices and amounts an exchange accepts in an order, and what it charges."""

from decimal import Decimal

from msgspec import Struct

from services.core.bounds import Violation, is_amount, is_price, names_violation, shorten
from services.core.model import Instrument

MAX_SYMBOL_LENGTH = 64
MAX_FEE = Decimal(1)  # the whole value of an order


class TradingRules(Struct, frozen=True, kw_only=True):
    """The rules of one instrument. Amounts are in the unit of the exchange: of some contracts it is the quote.

    Fees are shares of an order's value, and negative where the exchange pays; None: they depend on the account.
    """

    exchange: str
    instrument: Instrument
    symbol: str  # the exchange's own name
    trading: bool
    tick_size: Decimal  # prices are multiples of it
    step_size: Decimal  # amounts are multiples of it
    min_size: Decimal
    min_notional: Decimal | None = None  # of price times amount
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    time: int  # when the exchange sent them, by our clock


def rules_violation(rules: TradingRules) -> Violation | None:
    """Check rules from outside."""
    for size in (rules.tick_size, rules.step_size):
        if not is_price(size):
            return Violation("size", f"the step {shorten(size)}")
    for amount in (rules.min_size, rules.min_notional or Decimal(0)):
        if not is_amount(amount):
            return Violation("size", f"the least amount {shorten(amount)}")
    for fee in (rules.maker_fee, rules.taker_fee):
        if fee is not None and not (is_amount(fee.copy_abs()) and abs(fee) <= MAX_FEE):
            return Violation("fee", f"the fee {shorten(fee)}")
    if not (rules.symbol.isascii() and rules.symbol.isprintable() and len(rules.symbol) <= MAX_SYMBOL_LENGTH):
        return Violation("name", f"the symbol {shorten(rules.symbol)}")
    return names_violation(rules.exchange, rules.instrument)
