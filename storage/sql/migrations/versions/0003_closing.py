"""Closed lines, closed periods and issued documents: append-only, all three."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("closed_lines", "periods", "invoices")


def _refusal(table: str) -> str:
    return f"{table} is append-only"


def _sqlite_guards(table: str) -> list[str]:
    return [
        f"""
        CREATE TRIGGER {table}_keep_{verb.lower()} BEFORE {verb} ON {table}
        BEGIN SELECT RAISE(ABORT, '{_refusal(table)}'); END
        """
        for verb in ("UPDATE", "DELETE")
    ]


def _postgres_guards(table: str) -> list[str]:
    return [
        f"""
        CREATE FUNCTION {table}_keep() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '{_refusal(table)}'
        USING ERRCODE = 'integrity_constraint_violation'; END $$
        """,
        f"""
        CREATE TRIGGER {table}_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION {table}_keep()
        """,
    ]


def upgrade() -> None:
    """Create the tables, and the triggers that refuse to change what was closed."""
    op.create_table(
        "closed_lines",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("line_id", sa.Text, nullable=False, unique=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("billing_start", sa.BigInteger, nullable=False),
        sa.Column("billing_end", sa.BigInteger, nullable=True),
        sa.Column("accounting_date", sa.Text, nullable=False),
        sa.Column("adjusts", sa.Text, nullable=True),
        sa.Column("closed_by", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("row", sa.Text, nullable=False),
        sa.Column("checksum", sa.Text, nullable=False),
    )
    op.create_index("closed_lines_by_date", "closed_lines", ["accounting_date"])
    op.create_index("closed_lines_by_contract", "closed_lines", ["contract"])
    op.create_index("closed_lines_by_document", "closed_lines", ["document"])
    op.create_table(
        "periods",
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.Text, nullable=False),
        sa.Column("unsettled", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=True),
    )
    op.create_table(
        "invoices",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("issue", sa.BigInteger, nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Text, nullable=False, unique=True),
        sa.Column("credits", sa.Text, nullable=True, unique=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("contract", sa.Text, nullable=True),
        sa.Column("accounting_date", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("head", sa.Text, nullable=False),
        sa.Column("checksum", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=True),
        sa.UniqueConstraint("kind", "document", "issue", name="invoices_once_a_document"),
        sa.UniqueConstraint("entity", "kind", "ordinal", name="invoices_numbered"),
    )
    op.create_index("invoices_by_date", "invoices", ["accounting_date"])
    op.create_index("invoices_by_document", "invoices", ["document"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in TABLES:
        for guard in _sqlite_guards(table) if sqlite else _postgres_guards(table):
            op.execute(guard)
