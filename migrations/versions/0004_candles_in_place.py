"""Update candles in place: the primary key's index has only the key, and half of each page is free.

With the values in the index, each update of a candle added an index entry. Without them, and with room for a second
version on the same page, an update changes no index. Early vacuums, which index-only scans needed, are no longer
necessary.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = "exchange, symbol, timeframe, timestamp"
VALUES = "open, high, low, close, volume, quote_volume, trades, closed, source, revision"


def upgrade() -> None:
    """Forward."""
    _rebuild(f"({KEY})", "SET (fillfactor = 50), RESET (autovacuum_vacuum_insert_scale_factor)")


def downgrade() -> None:
    """Back."""
    _rebuild(f"({KEY}) INCLUDE ({VALUES})", "RESET (fillfactor), SET (autovacuum_vacuum_insert_scale_factor = 0.02)")


def _rebuild(key: str, storage: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'candles'::regclass"
    for (partition,) in connection.exec_driver_sql(partitions).all():
        op.execute(f"ALTER TABLE {partition} {storage}")  # existing pages get free space as their rows are rewritten
    op.execute("ALTER TABLE candles DROP CONSTRAINT pk_candles")
    op.execute(f"ALTER TABLE candles ADD CONSTRAINT pk_candles PRIMARY KEY {key}")
