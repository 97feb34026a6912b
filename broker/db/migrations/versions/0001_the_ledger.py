"""The ledger"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("suspended_until", sa.DateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_credentials")),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("shape", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", sa.DateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("requested_at", sa.DateTime(), nullable=False),
        sa.Column("deadline", sa.DateTime(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("not_before", sa.DateTime(), nullable=True),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("offer_id", sa.String(length=255), nullable=True),
        sa.Column("instance_type", sa.String(length=128), nullable=True),
        sa.Column("zone", sa.String(length=128), nullable=True),
        sa.Column("price_per_hour", sa.String(length=40), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("label", sa.String(length=63), nullable=True),
        sa.Column("instance_id", sa.String(length=128), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("host_key", sa.Text(), nullable=True),
        sa.Column("overlay_key", sa.String(length=64), nullable=True),
        sa.Column("fenced_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint(
            "state IN ('bootstrapping', 'draining', 'launching', 'parked', 'ready', 'released', 'releasing', 'requested')",
            name=op.f("ck_leases_state_known"),
        ),
        sa.CheckConstraint(
            "state IN ('requested', 'released') OR label IS NOT NULL", name=op.f("ck_leases_label_before_launch")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leases")),
        sa.UniqueConstraint("label", name=op.f("uq_leases_label")),
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index("ix_leases_request_id", ["request_id"], unique=False)
        batch_op.create_index("ix_leases_state", ["state"], unique=False)
        batch_op.create_index(
            "uq_leases_node_held",
            ["node"],
            unique=True,
            sqlite_where=sa.text("state IN ('bootstrapping', 'draining', 'launching', 'ready', 'requested')"),
            postgresql_where=sa.text("state IN ('bootstrapping', 'draining', 'launching', 'ready', 'requested')"),
        )

    op.create_table(
        "offers",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("instance_type", sa.String(length=128), nullable=False),
        sa.Column("zone", sa.String(length=128), nullable=False),
        sa.Column("capacity_type", sa.String(length=16), nullable=False),
        sa.Column("accelerator", sa.String(length=32), nullable=True),
        sa.Column("accelerator_count", sa.Integer(), nullable=False),
        sa.Column("accelerator_memory_gib", sa.Integer(), nullable=True),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("memory_gib", sa.Integer(), nullable=False),
        sa.Column("disk_gib", sa.Integer(), nullable=False),
        sa.Column("cpu_arch", sa.String(length=16), nullable=False),
        sa.Column("price_per_hour", sa.String(length=40), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("observed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offers")),
    )
    with op.batch_alter_table("offers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_offers_provider"), ["provider"], unique=False)

    op.create_table(
        "purchasing",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("paused_by", sa.String(length=64), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_purchasing_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchasing")),
    )
    op.create_table(
        "attended_jobs",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("attended_at", sa.DateTime(), nullable=False),
        sa.Column("mounted_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_attended_jobs_lease_id")),
        sa.PrimaryKeyConstraint("job_id", "lease_id", name=op.f("pk_attended_jobs")),
    )
    op.create_table(
        "lease_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("was", sa.String(length=16), nullable=True),
        sa.Column("became", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_lease_events_lease_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease_events")),
    )
    with op.batch_alter_table("lease_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lease_events_lease_id"), ["lease_id"], unique=False)

    op.create_table(
        "lease_steps",
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_lease_steps_lease_id")),
        sa.PrimaryKeyConstraint("lease_id", "name", name=op.f("pk_lease_steps")),
    )
    op.create_table(
        "usage_events",
        sa.Column("lease_id", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("not_before", sa.DateTime(), nullable=False),
        sa.Column("not_after", sa.DateTime(), nullable=False),
        sa.Column("price_per_hour", sa.String(length=40), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.CheckConstraint("kind IN ('start', 'end')", name=op.f("ck_usage_events_kind_known")),
        sa.CheckConstraint("not_before <= not_after", name=op.f("ck_usage_events_bounds_in_order")),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_usage_events_lease_id")),
        sa.PrimaryKeyConstraint("lease_id", "kind", name=op.f("pk_usage_events")),
    )
    op.execute("INSERT INTO purchasing (id, turn) VALUES (1, 0)")
