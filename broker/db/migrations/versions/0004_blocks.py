"""Breakers and blocked machines in the place of suspended credentials; looks at credentials; residue"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blocks",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=True),
        sa.Column("trying", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["trying"], ["leases.id"], name=op.f("fk_blocks_trying_leases")),
        sa.PrimaryKeyConstraint("provider", "cause", "subject", name=op.f("pk_blocks")),
    )
    op.create_table(
        "block_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=64), nullable=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block_events")),
    )
    op.create_index("ix_block_events_provider", "block_events", ["provider"])
    op.create_table(
        "credential_looks",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_credential_looks")),
    )
    op.create_table(
        "residue",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("thing", sa.String(length=128), nullable=False),
        sa.Column("label", sa.String(length=63), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(), nullable=False),
        sa.Column("removed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("provider", "kind", "thing", name=op.f("pk_residue")),
    )
    # Quotas and silences are found out anew by one refused purchase; a refused credential was for a person to mend.
    op.execute(
        "INSERT INTO blocks (provider, cause, subject, reason, since, at, until, strikes) "
        "SELECT provider, 'refused', '', reason, suspended_until, suspended_until, suspended_until, 1 "
        "FROM credentials WHERE reason LIKE 'credential refused%'"
    )
    op.drop_table("credentials")


def downgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("suspended_until", sa.DateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_credentials")),
    )
    op.execute(
        "INSERT INTO credentials (provider, suspended_until, reason) "
        "SELECT provider, until, reason FROM blocks WHERE cause = 'refused'"
    )
    for table in ("residue", "credential_looks", "block_events", "blocks"):
        op.drop_table(table)
