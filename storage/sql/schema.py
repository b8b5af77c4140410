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
    # JSON lists of what the key is limited to; null: everything.
    sa.Column("customers", sa.Text, nullable=True),
    sa.Column("sources", sa.Text, nullable=True),
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

CLOSED_LINES = sa.Table(
    "closed_lines",
    METADATA,
    # 1, 2, 3, … without gaps, like revisions: what exports and journals read by.
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("line_id", sa.Text, nullable=False, unique=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("contract", sa.Text, nullable=False),
    # The invoice the line belongs on, issued or not (invoicing.documents).
    sa.Column("document", sa.Text, nullable=False),
    # The seller's legal entity, "" for the only one.
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("billing_start", sa.BigInteger, nullable=False),
    sa.Column("billing_end", sa.BigInteger, nullable=True),
    sa.Column("accounting_date", sa.Text, nullable=False),
    sa.Column("adjusts", sa.Text, nullable=True),
    # A month (2026-01) or the document whose issue closed it.
    sa.Column("closed_by", sa.Text, nullable=False),
    # An answer as of T knows what was recorded by T; as_of is what the line was rated with.
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("as_of", sa.BigInteger, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    # The line's CSV row, and its SHA-256.
    sa.Column("row", sa.Text, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
    sa.Index("closed_lines_by_date", "accounting_date"),
    sa.Index("closed_lines_by_contract", "contract"),
    sa.Index("closed_lines_by_document", "document"),
)

PERIODS = sa.Table(
    "periods",
    METADATA,
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("as_of", sa.BigInteger, nullable=False),
    # The last closed line when it was closed.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
    # JSON: contracts whose adjustments were left for a later period.
    sa.Column("unsettled", sa.Text, nullable=False),
    # What the first close answered, and every later one answers.
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=True),
)

INVOICES = sa.Table(
    "invoices",
    METADATA,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    # invoice or credit_note
    sa.Column("kind", sa.Text, nullable=False),
    # A document is issued once (issue 1), and again only after that issue was voided.
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("issue", sa.BigInteger, nullable=False),
    # ordinal is 1, 2, 3, … per entity and kind; number is it as printed.
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("ordinal", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Text, nullable=False, unique=True),
    # The invoice a credit note takes back: having one is being void.
    sa.Column("credits", sa.Text, nullable=True, unique=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("contract", sa.Text, nullable=True),
    sa.Column("accounting_date", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("as_of", sa.BigInteger, nullable=False),
    # JSON: the document but for its lines, which are the closed lines of it.
    sa.Column("head", sa.Text, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=True),
    sa.UniqueConstraint("kind", "document", "issue", name="invoices_once_a_document"),
    sa.UniqueConstraint("entity", "kind", "ordinal", name="invoices_numbered"),
    sa.Index("invoices_by_date", "accounting_date"),
    sa.Index("invoices_by_document", "document"),
)

EXPORTS = sa.Table(
    "exports",
    METADATA,
    sa.Column("export", sa.Text, nullable=False),
    # 1, 2, 3, … a destination: what it was when a run was made is what its replay is made with.
    sa.Column("revision", sa.BigInteger, nullable=False),
    # The declaration as JSON, webhook secrets included.
    sa.Column("body", sa.Text, nullable=False),
    # What positions count (outbound.streams.Stream); the same in every revision.
    sa.Column("stream", sa.Text, nullable=False),
    # The position it began after.
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("retired", sa.Boolean, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=True),
    sa.PrimaryKeyConstraint("export", "revision"),
)

EXPORT_RUNS = sa.Table(
    "export_runs",
    METADATA,
    sa.Column("export", sa.Text, nullable=False),
    # 1, 2, 3, … a destination; with it the stable id of what is delivered.
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    # Positions in (after, upto]; a destination's runs follow each other without gap or overlap.
    sa.Column("after", sa.BigInteger, nullable=False),
    sa.Column("upto", sa.BigInteger, nullable=False),
    # pending, delivered, empty or dead
    sa.Column("status", sa.Text, nullable=False),
    # Null until it was rendered once; every later rendering must have the same checksum.
    sa.Column("rows", sa.BigInteger, nullable=True),
    sa.Column("bytes", sa.BigInteger, nullable=True),
    sa.Column("checksum", sa.Text, nullable=True),
    # Since it was last asked for; deliveries that arrived, in all.
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("deliveries", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text, nullable=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("next_attempt_at", sa.BigInteger, nullable=True),
    sa.Column("delivered_at", sa.BigInteger, nullable=True),
    sa.Column("actor", sa.Text, nullable=True),
    sa.PrimaryKeyConstraint("export", "number"),
    sa.UniqueConstraint("export", "after", name="export_runs_once_a_stretch"),
    sa.Index("export_runs_due", "next_attempt_at"),
)

AUDIT = sa.Table(
    "audit",
    METADATA,
    # 1, 2, 3, … without gaps, in the order of commit. Triggers refuse updates and deletes.
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    # A key's id; "cli" for a command that works on the data directory itself.
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    # A small JSON object; never a secret, never event data.
    sa.Column("summary", sa.Text, nullable=False),
    # SHA-256 of what the subject is from now on; null where it has no content, or ends.
    sa.Column("digest", sa.Text, nullable=True),
    # SHA-256 over this row and the chain of the one before.
    sa.Column("chain", sa.Text, nullable=False),
    sa.Index("audit_by_subject", "kind", "subject", "position"),
    sa.Index("audit_by_actor", "actor", "position"),
    sa.Index("audit_by_time", "recorded_at"),
)

META = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
