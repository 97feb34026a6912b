"""Observations: what was seen of each offer, when, and what it was folded into"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "offer_series",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("offer_id", sa.String(length=255), nullable=False),
        sa.Column("instance_type", sa.String(length=128), nullable=False),
        sa.Column("zone", sa.String(length=128), nullable=False),
        sa.Column("capacity_type", sa.String(length=16), nullable=False),
        sa.Column("accelerator", sa.String(length=32), nullable=True),
        sa.Column("accelerator_count", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("folded_until", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offer_series")),
        sa.UniqueConstraint("offer_id", name=op.f("uq_offer_series_offer_id")),
    )
    op.create_index("ix_offer_series_provider", "offer_series", ["provider"])
    op.create_index("ix_offer_series_accelerator", "offer_series", ["accelerator"])
    op.create_table(
        "offer_observations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("price_per_hour", sa.String(length=40), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.CheckConstraint(
            "source IN ('listing', 'create_refused', 'create_accepted', 'probe')",
            name=op.f("ck_offer_observations_source_known"),
        ),
        sa.ForeignKeyConstraint(
            ["series_id"], ["offer_series.id"], name=op.f("fk_offer_observations_series_id_offer_series")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offer_observations")),
    )
    op.create_index("ix_offer_observations_at", "offer_observations", ["at"])
    op.create_index("ix_offer_observations_series_id_at", "offer_observations", ["series_id", "at"])
    op.create_table(
        "offer_readings",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("believed", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("left_out", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offer_readings")),
    )
    op.create_index("ix_offer_readings_provider_at", "offer_readings", ["provider", "at"])
    op.create_table(
        "offer_periods",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("hours", sa.Integer(), nullable=False),
        sa.Column("start", sa.DateTime(), nullable=False),
        sa.Column("price_low", sa.String(length=40), nullable=False),
        sa.Column("price_high", sa.String(length=40), nullable=False),
        sa.Column("price_last", sa.String(length=40), nullable=False),
        sa.Column("available_s", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("bought", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.CheckConstraint("hours IN (1, 24)", name=op.f("ck_offer_periods_an_hour_or_a_day")),
        sa.ForeignKeyConstraint(
            ["series_id"], ["offer_series.id"], name=op.f("fk_offer_periods_series_id_offer_series")
        ),
        sa.PrimaryKeyConstraint("series_id", "hours", "start", name=op.f("pk_offer_periods")),
    )
    op.create_index("ix_offer_periods_start", "offer_periods", ["start"])
    op.create_index("ix_leases_state_since", "leases", ["state_since"])


def downgrade() -> None:
    op.drop_index("ix_leases_state_since", "leases")
    for table in ("offer_periods", "offer_readings", "offer_observations", "offer_series"):
        op.drop_table(table)
