"""What marketplaces need: the one machine behind an offer, its end, disk and traffic at their own prices, its SSH port"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_Columns = tuple[tuple[str, sa.types.TypeEngine[Any]], ...]

_OFFERS: _Columns = (
    ("disk_price_per_gib_hour", sa.String(length=40)),
    ("disk_min_gib", sa.Integer()),
    ("machine", sa.String(length=128)),
    ("until", sa.DateTime()),
    ("egress_per_gb", sa.String(length=40)),
    ("ingress_per_gb", sa.String(length=40)),
)
_LEASES: _Columns = (
    ("capacity_type", sa.String(length=16)),
    ("machine", sa.String(length=128)),
    ("ssh_port", sa.Integer()),
)


def upgrade() -> None:
    for name, kind in _OFFERS:
        op.add_column("offers", sa.Column(name, kind, nullable=True))
    for name, kind in _LEASES:
        op.add_column("leases", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name, _ in reversed(_LEASES):
        op.drop_column("leases", name)
    for name, _ in reversed(_OFFERS):
        op.drop_column("offers", name)
