"""Stripe: the outbox of usage, what we made there, what it said"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_outbox",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("meter", sa.String(length=32), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.String(length=100), nullable=False),
        sa.Column("value", sa.String(length=40), nullable=False),
        sa.Column("total_us", sa.Text(), nullable=False),
        sa.Column("sendable_at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("first_try_at", sa.DateTime(), nullable=True),
        sa.Column("not_before", sa.DateTime(), nullable=True),
        sa.Column("sent_at", sa.DateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('due', 'sending', 'sent', 'dead', 'too_late')", name=op.f("ck_usage_outbox_state_known")
        ),
        sa.CheckConstraint(
            "state IN ('due', 'too_late') OR first_try_at IS NOT NULL", name=op.f("ck_usage_outbox_tried_before_sent")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_outbox")),
        sa.UniqueConstraint("identifier", name=op.f("uq_usage_outbox_identifier")),
        sa.UniqueConstraint(
            "account", "meter", "hour", "revision", name=op.f("uq_usage_outbox_account_meter_hour_revision")
        ),
    )
    op.create_index(op.f("ix_usage_outbox_state"), "usage_outbox", ["state"], unique=False)
    op.create_table(
        "stripe_objects",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("stripe_id", sa.String(length=255), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("intended_at", sa.DateTime(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("(stripe_id IS NULL) = (made_at IS NULL)", name=op.f("ck_stripe_objects_made_with_its_id")),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_stripe_objects")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_stripe_objects_idempotency_key")),
    )
    op.create_index(op.f("ix_stripe_objects_stripe_id"), "stripe_objects", ["stripe_id"], unique=False)
    op.create_table(
        "stripe_states",
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("said_at", sa.DateTime(), nullable=False),
        sa.Column("written_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("stripe_id", name=op.f("pk_stripe_states")),
    )
    op.create_table(
        "stripe_events",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=100), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("to_fetch", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_events")),
    )


def downgrade() -> None:
    for table in ("stripe_events", "stripe_states", "stripe_objects", "usage_outbox"):
        op.drop_table(table)
