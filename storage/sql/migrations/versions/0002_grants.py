"""Grants: bought or given allotments, append-only; revoking one is another row."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REFUSAL = "grants are append-only"

SQLITE_GUARDS = [
    f"""
    CREATE TRIGGER grants_keep_{verb.lower()} BEFORE {verb} ON grants
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """
    for verb in ("UPDATE", "DELETE")
]

POSTGRES_GUARDS = [
    f"""
    CREATE FUNCTION grants_keep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$
    """,
    """
    CREATE TRIGGER grants_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON grants
    FOR EACH STATEMENT EXECUTE FUNCTION grants_keep()
    """,
]


def upgrade() -> None:
    """Create the table, and the triggers that refuse to change what was granted."""
    op.create_table(
        "grants",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("feature", sa.Text, nullable=False),
        sa.Column("amount", sa.Text, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("effective_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("rollover_max", sa.Text, nullable=True),
        sa.Column("granted_at", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("revoked", sa.Boolean, nullable=False),
        sa.Column("actor", sa.Text, nullable=True),
    )
    op.create_index("grants_by_id", "grants", ["id", "revision"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for guard in SQLITE_GUARDS if sqlite else POSTGRES_GUARDS:
        op.execute(guard)
