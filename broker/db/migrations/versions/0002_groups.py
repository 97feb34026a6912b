"""Groups: a private address for their own traffic, and the ways by which they are looked for"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("private_address", sa.String(length=64), nullable=True))
    op.create_index("ix_leases_job_id", "leases", ["job_id"])
    op.create_index("ix_leases_node", "leases", ["node"])


def downgrade() -> None:
    op.drop_index("ix_leases_node", "leases")
    op.drop_index("ix_leases_job_id", "leases")
    op.drop_column("leases", "private_address")
