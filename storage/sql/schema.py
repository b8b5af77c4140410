"""The tables as SQLAlchemy sees them. The migrations create them; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

STATEMENTS = sa.Table(
    "statements",
    METADATA,
    # 1, 2, 3, … without gaps: given inside the append transaction, never by a sequence.
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("retired", sa.Boolean, nullable=False),
    sa.Column("whole_chain", sa.Boolean, nullable=False),
    # JSON: [{"effective_from", "effective_until", "body"}, …], kept as the text it was written as.
    sa.Column("versions", sa.Text, nullable=False),
    # The key that stated it, or null for a command that works on the files directly.
    sa.Column("actor", sa.Text, nullable=True),
    sa.Index("statements_by_object", "kind", "id", "revision"),
    sa.Index("statements_by_time", "recorded_at"),
)

NODES = sa.Table(
    "nodes",
    METADATA,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("registered_at", sa.BigInteger, nullable=False),
    sa.Column("retired_at", sa.BigInteger, nullable=True),
)

API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=True),
    sa.Column("revoked_at", sa.BigInteger, nullable=True),
    # The revision of the key set that last touched this row; pollers compare the largest.
    sa.Column("change", sa.BigInteger, nullable=False, unique=True),
)

GRANTS = sa.Table(
    "grants",
    METADATA,
    # 1, 2, 3, … like that of statements. A grant is stated once, and once more when revoked.
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("feature", sa.Text, nullable=False),
    # Amounts are decimals as text: exact in both engines.
    sa.Column("amount", sa.Text, nullable=False),
    sa.Column("priority", sa.BigInteger, nullable=False),
    sa.Column("effective_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=True),
    sa.Column("rollover_max", sa.Text, nullable=True),
    # When it was first stated; recorded_at is of this row.
    sa.Column("granted_at", sa.BigInteger, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("revoked", sa.Boolean, nullable=False),
    sa.Column("actor", sa.Text, nullable=True),
    # Null: given once.
    sa.Column("every_months", sa.BigInteger, nullable=True),
    sa.Column("anchor", sa.Text, nullable=True),
    sa.Index("grants_by_id", "id", "revision"),
)

META = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
