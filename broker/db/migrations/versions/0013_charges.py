"""Charges: who held a machine when, metered entries, terms, closed invoices"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLES = (
    "charges",
    "invoiced_entries",
    "invoices",
    "billing_turn",
    "billing_terms",
    "usage_entries",
    "metered_leases",
    "lease_payers",
    "occupancies",
)

_ONLY_GROW = ("usage_entries", "billing_terms", "invoices", "invoiced_entries", "charges")
_SAYS = "the ledger only grows: write a reversing entry instead"


def upgrade() -> None:
    op.create_table(
        "occupancies",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=True),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("ended_at IS NULL OR began_at <= ended_at", name=op.f("ck_occupancies_ends_in_order")),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_occupancies_lease_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occupancies")),
    )
    op.create_index(op.f("ix_occupancies_lease_id"), "occupancies", ["lease_id"], unique=False)
    op.create_index(
        "uq_occupancies_open",
        "occupancies",
        ["lease_id", "job_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "lease_payers",
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_lease_payers_lease_id")),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_lease_payers")),
    )
    op.create_table(
        "metered_leases",
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("accelerator", sa.String(length=32), nullable=True),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("granularity_s", sa.Integer(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.CheckConstraint("units > 0 AND granularity_s > 0", name=op.f("ck_metered_leases_counts_something")),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_metered_leases_lease_id")),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_metered_leases")),
    )
    op.create_index(op.f("ix_metered_leases_settled"), "metered_leases", ["settled"], unique=False)
    op.create_table(
        "usage_entries",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("account", sa.String(length=64), nullable=True),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("accelerator", sa.String(length=32), nullable=True),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("price_per_hour", sa.String(length=40), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("written_at", sa.DateTime(), nullable=False),
        sa.Column("reverses", sa.Integer(), nullable=True),
        sa.CheckConstraint("0 < part AND part <= parts", name=op.f("ck_usage_entries_part_of_a_whole")),
        sa.CheckConstraint(
            "kind IN ('boot', 'failed_boot', 'job', 'idle', 'parked', 'release')",
            name=op.f("ck_usage_entries_kind_known"),
        ),
        sa.CheckConstraint("began_at < ended_at", name=op.f("ck_usage_entries_takes_time")),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_usage_entries_lease_id")),
        sa.ForeignKeyConstraint(["reverses"], ["usage_entries.id"], name=op.f("fk_usage_entries_reverses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_entries")),
        sa.UniqueConstraint("reverses", name=op.f("uq_usage_entries_reverses")),
    )
    op.create_index(op.f("ix_usage_entries_ended_at"), "usage_entries", ["ended_at"], unique=False)
    op.create_index(op.f("ix_usage_entries_lease_id"), "usage_entries", ["lease_id"], unique=False)
    op.create_table(
        "billing_terms",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=True),
        sa.Column("accelerator", sa.String(length=32), nullable=True),
        sa.Column("slice_kind", sa.String(length=16), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=True),
        sa.Column("value", sa.String(length=40), nullable=True),
        sa.Column("text", sa.String(length=64), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("effective_from", sa.DateTime(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("set_by", sa.String(length=64), nullable=False),
        sa.Column("set_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_terms")),
    )
    op.create_table(
        "billing_turn",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_billing_turn_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_turn")),
    )
    op.create_table(
        "invoices",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=96), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("period_start", sa.DateTime(), nullable=False),
        sa.Column("period_end", sa.DateTime(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("cost_centre", sa.String(length=64), nullable=True),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.Column("taxes", sa.JSON(), nullable=False),
        sa.Column("carried_in", sa.Text(), nullable=False),
        sa.Column("net_minor", sa.BigInteger(), nullable=False),
        sa.Column("carried_out", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.DateTime(), nullable=False),
        sa.Column("closed_by", sa.String(length=64), nullable=False),
        sa.Column("refers_to", sa.String(length=96), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("period_start < period_end", name=op.f("ck_invoices_period_in_order")),
        sa.ForeignKeyConstraint(["refers_to"], ["invoices.id"], name=op.f("fk_invoices_refers_to")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_invoices")),
        sa.UniqueConstraint("id", name=op.f("uq_invoices_id")),
    )
    op.create_index(
        "uq_invoices_account_period",
        "invoices",
        ["account", "period_start"],
        unique=True,
        sqlite_where=sa.text("refers_to IS NULL"),
        postgresql_where=sa.text("refers_to IS NULL"),
    )
    op.create_index("uq_invoices_refers_to_note", "invoices", ["refers_to", "note"], unique=True)
    op.create_table(
        "invoiced_entries",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("invoice_id", sa.String(length=96), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["usage_entries.id"], name=op.f("fk_invoiced_entries_entry_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_invoiced_entries_invoice_id")),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_invoiced_entries")),
    )
    op.create_index(op.f("ix_invoiced_entries_invoice_id"), "invoiced_entries", ["invoice_id"], unique=False)
    op.create_table(
        "charges",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("invoice_id", sa.String(length=96), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("accelerator", sa.String(length=32), nullable=True),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=False),
        sa.Column("unit_us", sa.Text(), nullable=False),
        sa.Column("free_us", sa.Text(), nullable=False),
        sa.Column("free_scope", sa.String(length=32), nullable=True),
        sa.Column("unit_price", sa.Text(), nullable=False),
        sa.Column("basis", sa.String(length=32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("exchange", sa.String(length=40), nullable=False),
        sa.Column("exchange_source", sa.Text(), nullable=True),
        sa.Column("percent", sa.String(length=40), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["usage_entries.id"], name=op.f("fk_charges_entry_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_charges_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charges")),
    )
    op.create_index(op.f("ix_charges_entry_id"), "charges", ["entry_id"], unique=False)
    op.create_index(op.f("ix_charges_invoice_id"), "charges", ["invoice_id"], unique=False)
    op.execute("INSERT INTO billing_turn (id, turn) VALUES (1, 0)")
    # What is known of jobs that came before: each one's last time on a machine. Slurm's account was not kept then.
    op.execute(
        'INSERT INTO occupancies (lease_id, job_id, "user", account, began_at, ended_at) '
        'SELECT lease_id, job_id, "user", NULL, attended_at, '
        "CASE WHEN ended_at < attended_at THEN attended_at ELSE ended_at END FROM attended_jobs"
    )
    for table in _ONLY_GROW:
        _let_it_only_grow(table)


def _let_it_only_grow(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION broker_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_SAYS}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_only_grows BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION broker_only_grows()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END"
        )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
