"""What Slurm's accounting said of each run, with its corrections"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sacct_runs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("cluster", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("supersedes", sa.Integer(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("raw_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=128), nullable=False),
        sa.Column("submitted_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("elapsed_s", sa.BigInteger(), nullable=False),
        sa.Column("suspended_s", sa.BigInteger(), nullable=False),
        sa.Column("limit_s", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("user", sa.String(length=128), nullable=False),
        sa.Column("account", sa.String(length=128), nullable=False),
        sa.Column("partition", sa.String(length=128), nullable=False),
        sa.Column("qos", sa.String(length=128), nullable=False),
        sa.Column("gpus", sa.Text(), nullable=True),
        sa.Column("cpus", sa.BigInteger(), nullable=True),
        sa.Column("billing", sa.BigInteger(), nullable=True),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.DateTime(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["supersedes"], ["sacct_runs.id"], name=op.f("fk_sacct_runs_supersedes_sacct_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sacct_runs")),
        sa.UniqueConstraint("cluster", "key", "digest", name=op.f("uq_sacct_runs_cluster_key_digest")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_sacct_runs_supersedes")),
    )
    op.create_index("ix_sacct_runs_cluster_raw_id", "sacct_runs", ["cluster", "raw_id"])
    op.create_index(
        "uq_sacct_runs_first",
        "sacct_runs",
        ["cluster", "key"],
        unique=True,
        sqlite_where=sa.text("supersedes IS NULL"),
        postgresql_where=sa.text("supersedes IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("sacct_runs")
