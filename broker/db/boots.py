"""How long machines took from their purchase to their slurmd, as the ledger saw it."""

import math
from collections import defaultdict
from datetime import timedelta

from sqlalchemy import Connection, select

from broker.core.usage import UsageKind
from broker.db.schema import lease_steps, leases, usage_events

# Newer boots tell more; older ones than these are of another year's image.
_LOOKED_AT = 500
# Fewer prove nothing: with them the provider's own time limit (boot_timeout_s) is all that holds.
_ENOUGH = 5
_LAST_STEP = "slurmd"


def p95(db: Connection) -> dict[tuple[str, str], timedelta]:
    """(credential, instance type) → the 95th percentile (nearest rank) of its latest boots; too few boots: no entry."""
    query = (
        select(leases.c.provider, leases.c.instance_type, usage_events.c.not_after, lease_steps.c.finished_at)
        .join(usage_events, usage_events.c.lease_id == leases.c.id)
        .join(lease_steps, lease_steps.c.lease_id == leases.c.id)
        .where(usage_events.c.kind == UsageKind.START, lease_steps.c.name == _LAST_STEP)
        .order_by(lease_steps.c.finished_at.desc())
        .limit(_LOOKED_AT)
    )
    took: dict[tuple[str, str], list[timedelta]] = defaultdict(list)
    for row in db.execute(query):
        took[row.provider, row.instance_type].append(row.finished_at - row.not_after)
    return {
        what: sorted(times)[math.ceil(0.95 * len(times)) - 1] for what, times in took.items() if len(times) >= _ENOUGH
    }
