"""How long machines took from their purchase to their slurmd, as the ledger saw it."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, select

from broker.core.usage import UsageKind
from broker.db.schema import lease_steps, leases, usage_events

# Newer boots tell more; older ones than these are of another year's image.
_LOOKED_AT = 500
# Fewer prove nothing: with them the provider's own time limit (boot_timeout_s) is all that holds.
_ENOUGH = 5
_LAST_STEP = "slurmd"


@dataclass(frozen=True, kw_only=True)
class BootTimes:
    """Percentiles (nearest rank) of the latest boots, and how many those were."""

    p50: timedelta
    p95: timedelta
    boots: int


def times(db: Connection) -> dict[tuple[str, str], BootTimes]:
    """(credential, instance type) → how long its latest boots took; too few boots: no entry."""
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
        what: BootTimes(p50=_rank(sorted(spans), 0.5), p95=_rank(sorted(spans), 0.95), boots=len(spans))
        for what, spans in took.items()
        if len(spans) >= _ENOUGH
    }


def _rank(ordered: Sequence[timedelta], part: float) -> timedelta:
    return ordered[math.ceil(part * len(ordered)) - 1]
