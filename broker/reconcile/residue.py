"""What a provider charges for beside instances (disks, addresses, keys) is removed when the lease it belongs to has ended.

Only with exactly our label, and only when it has stood without a living lease for the grace: a purchase under way may make
its disk before its machine shows. What belongs to others is never touched. Machines themselves are the sweep's.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from broker.core.errors import InstanceNotFound
from broker.core.leases import lease_of_label
from broker.core.residue import Residue
from broker.db import leases, residue
from broker.db.engine import reading
from broker.db.residue import Left
from broker.providers.base import LeavesResidue, residue_of
from broker.reconcile.driver import Task
from broker.reconcile.world import Happening, World

log = logging.getLogger("broker.residue")

INSTANCE = "instance"
"""The kind under which the sweep writes down machines."""


class Residues:
    """Remembers since when each thing has had no lease. `grace`: how long one may be between two states of a purchase."""

    def __init__(self, world: World, grace: timedelta) -> None:
        self._world = world
        self._grace = grace
        self._since: dict[tuple[str, str, str], datetime] = {}

    def find(self) -> Iterable[Task]:
        """A task for each credential whose provider charges for more than instances."""
        for name, provider in self._world.providers.items():
            leaves = residue_of(provider)
            if leaves is not None:
                yield Task(key=f"residue:{name}", run=partial(self.look, name, leaves))

    def look(self, name: str, provider: LeavesResidue) -> None:
        """Remove what has stood without a lease for the grace; what the provider has no more is gone."""
        world, now = self._world, self._world.clock()
        # The list first: whatever it shows had its lease before, and that lease is read after it.
        seen = provider.residue()
        with reading(world.engine) as db:
            living = {lease.id for lease in leases.living(db)}
            open_before = [each.left for each in residue.still_open(db, name) if each.left.kind != INSTANCE]
        ours = {(name, each.kind, each.id): each for each in seen if is_left(world.site.cluster, each.label, living)}
        for key in self._since.keys() - ours.keys():
            if key[0] == name:
                del self._since[key]
        still = {(each.kind, each.id) for each in seen}
        ended = [left for left in open_before if (left.kind, left.thing) not in still]
        with world.engine.begin() as db:
            for left in ended:
                residue.gone(db, name, left.kind, [left.thing], now)
        for key, each in ours.items():
            if now - self._since.setdefault(key, now) >= self._grace:
                self._remove(name, provider, each)

    def _remove(self, name: str, provider: LeavesResidue, each: Residue) -> None:
        world = self._world
        left = Left(provider=name, kind=each.kind, thing=each.id, label=each.label or "", said=each.said)
        with world.engine.begin() as db:
            first = residue.found(db, left, world.clock())
        if first:
            log.error(
                "provider=%s %s=%s label=%s is left over: removed (%s)", name, each.kind, each.id, each.label, each.said
            )
            world.happened(Happening.RESIDUE_REMOVED, name, 1)
        try:
            provider.remove_residue(each)
        except InstanceNotFound:
            with world.engine.begin() as db:
                residue.gone(db, name, each.kind, [each.id], world.clock())


def is_left(cluster: str, label: str | None, living: Iterable[str]) -> bool:
    """Whether a thing with this label is ours, and no living lease stands behind it."""
    lease_id = lease_of_label(cluster, label)
    return lease_id is not None and lease_id not in living
