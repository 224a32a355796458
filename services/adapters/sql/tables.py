"""The tables, the same for PostgreSQL and SQLite. Times are milliseconds since the epoch; no price is ever a float."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Numeric, PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    },
)

# Without a scale, so that it is exact for any token. SQLite's NUMERIC is a float, so it is text there.
EXACT = Numeric().with_variant(Text(), "sqlite")
JSON = JSONB().with_variant(Text(), "sqlite")

# One row: the market of all data.
market = Table("market", metadata, Column("name", Text, primary_key=True))

rates = Table(
    "rates",
    metadata,
    Column("direction", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # a Rate as JSON
)

# FeedGap
gaps = Table(
    "gaps",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("instrument", Text, primary_key=True),  # empty: the whole exchange
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("until", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Index(None, "until"),  # few rows, mostly selected by their end: "since yesterday"
)

# The newest candles change all the time. No index has a column that changes, and pages have room for a second version
# of their rows (see partitions.py), so an update stays on its page and changes no index. On PostgreSQL a partition is a
# year.
candles = Table(
    "candles",
    metadata,
    Column("exchange", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("timeframe", Text, nullable=False),
    Column("timestamp", BigInteger, nullable=False, autoincrement=False),
    Column("open", EXACT, nullable=False),
    Column("high", EXACT, nullable=False),
    Column("low", EXACT, nullable=False),
    Column("close", EXACT, nullable=False),
    Column("volume", EXACT, nullable=False),
    Column("quote_volume", EXACT, nullable=False),
    Column("trades", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # when it was first saved; later revisions do not change it
    PrimaryKeyConstraint("exchange", "symbol", "timeframe", "timestamp"),
    postgresql_partition_by="RANGE (timestamp)",
    sqlite_with_rowid=False,
)

# CandleGap
holes = Table(
    "holes",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("until", BigInteger, primary_key=True, autoincrement=False),
    Column("noticed", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("settled", BigInteger),
    Column("origin", Text),
    Index(None, "state"),  # few open ones among many repaired ones
)

seals = Table(
    "seals",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("candles", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("made", BigInteger, nullable=False),
)

# TradeCursor
cursors = Table(
    "cursors",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
)

# IndicatorValue. The key has the candle before the indicator: the values at a candle are adjacent, and old ones are
# deleted by time.
indicators = Table(
    "indicators",
    metadata,
    Column("exchange", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("timeframe", Text, nullable=False),
    Column("indicator_name", Text, nullable=False),  # with all parameters: macd:12:26:9
    Column("timestamp", BigInteger, nullable=False, autoincrement=False),
    Column("value", JSON, nullable=False),  # by the indicator's outputs
    PrimaryKeyConstraint("exchange", "symbol", "timeframe", "timestamp", "indicator_name"),
)

analysis = Table(
    "analysis",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("timestamp", BigInteger, primary_key=True, autoincrement=False),
    Column("close", EXACT, nullable=False),
    Column("candles", Integer, nullable=False),
    Column("trend", Text, nullable=False),
    Column("strength", Integer, nullable=False),
    Column("votes", JSON, nullable=False),
    Column("signals", JSON, nullable=False),
    Column("support_levels", JSON, nullable=False),
    Column("resistance_levels", JSON, nullable=False),
    Column("fibonacci_levels", JSON, nullable=False),
    Column("pivot_levels", JSON, nullable=False),
    Column("volatility", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
)

# TradingRules
trading_rules = Table(
    "trading_rules",
    metadata,
    Column("exchange", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),  # the exchange's own
    Column("instrument", Text, nullable=False),
    Column("trading", Boolean, nullable=False),
    Column("tick_size", EXACT, nullable=False),
    Column("step_size", EXACT, nullable=False),
    Column("min_size", EXACT, nullable=False),
    Column("min_notional", EXACT),
    Column("maker_fee", EXACT),
    Column("taker_fee", EXACT),
    Column("time", BigInteger, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # JSON, in which a NUL is escaped
    Column("replay", Boolean, nullable=False),
    Index(None, "time"),  # the oldest are deleted
)
