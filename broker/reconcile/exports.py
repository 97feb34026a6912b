"""Holds the exported homes against the ledger: none without a job that is attended to.

We may have died, or a machine may have been fenced, between an export and the record of its end.
"""

import logging
from collections.abc import Iterable
from functools import partial

from broker.db import jobs
from broker.db.engine import reading
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.exports")


def find(world: World) -> Iterable[Task]:
    """One task."""
    yield Task(key="exports", run=partial(mend, world))


def mend(world: World) -> None:
    """Take away each export for which no job is open. Its intent is written before it is made."""
    for export in world.as_user.exports():
        # The lock: a next job of the same user on the same machine is given the same export.
        with world.homes.of(export.lease):
            with reading(world.engine) as db:
                wanted = any(job.lease_id == export.lease and job.user == export.user for job in jobs.open_jobs(db))
            if not wanted:
                log.warning("user=%s lease_id=%s home was exported for no job: taken away", export.user, export.lease)
                world.as_user.unexport_home(export.user, export.lease)
