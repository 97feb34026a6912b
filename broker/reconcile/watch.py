"""Looks whether slurmd still listens on every ready node: Slurm itself notices a dead one only after SlurmdTimeout (300 s).

A node that refuses has lost its slurmd. One that is silent may be cut off for a moment, or gone: its provider is asked.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from broker.core.errors import InstanceNotFound, ProviderError
from broker.core.leases import Lease, LeaseState
from broker.core.offers import Instance, InstanceState
from broker.db import leases
from broker.db.engine import reading
from broker.reconcile import lost
from broker.reconcile.driver import Task
from broker.reconcile.sign import Sign
from broker.reconcile.world import World

log = logging.getLogger("broker.watch")


class Watch:
    """Remembers since when each node shows which sign. `lost_after`: how long a node may be silent before its job is rerun."""

    def __init__(self, world: World, lost_after: timedelta) -> None:
        self._world = world
        self._lost_after = lost_after
        # slurmd is started again by its keeper within two seconds.
        self._dead_after = lost_after / 4
        self._since: dict[str, tuple[Sign, datetime]] = {}
        self._down: dict[str, datetime] = {}

    def find(self) -> Iterable[Task]:
        """A task for each ready node, and one for what Slurm thinks of them."""
        with reading(self._world.engine) as db:
            ready = leases.in_states(db, [LeaseState.READY])
        for gone in self._since.keys() - {lease.id for lease in ready}:
            self._since.pop(gone, None)
        for lease in ready:
            yield Task(key=f"watch:{lease.id}", run=partial(self.look, lease))
        if ready:
            yield Task(key="watch:slurm", run=partial(self.given_up, ready))

    def look(self, lease: Lease) -> None:
        """Knock at one node; when it has been dead or silent for long enough it is lost."""
        sign = self._world.knock(self._world.site.addresses[lease.node])
        now = self._world.clock()
        if sign in {Sign.ALIVE, Sign.UNKNOWN}:
            self._since.pop(lease.id, None)
            return
        was, since = self._since.get(lease.id, (sign, now))
        if was is not sign:
            since = now
        self._since[lease.id] = (sign, since)
        if sign is Sign.REFUSED:
            if now - since >= self._dead_after:
                lost.lose(self._world, lease.id, f"no slurmd runs on the machine since {since:%H:%M:%S}")
        elif since < now:  # at the second silence
            self._silent(lease, since, now)

    def given_up(self, ready: list[Lease]) -> None:
        """A node that Slurm holds for down: Slurm has requeued its jobs, and will never suspend it."""
        now = self._world.clock()
        down = {node.name: node for node in self._world.slurm.nodes() if node.state == "DOWN"}
        names = {lease.node: lease for lease in ready if lease.node in down}
        for name in self._down.keys() - names.keys():
            del self._down[name]
        for name, lease in names.items():
            if now - self._down.setdefault(name, now) >= self._dead_after:
                why = f"Slurm holds the node for down: {down[name].reason or 'no reason given'}"
                lost.lose(self._world, lease.id, why)

    def _silent(self, lease: Lease, since: datetime, now: datetime) -> None:
        provider = self._world.provider_of(lease)
        if provider is None:
            return
        try:
            found = next((i for i in self._world.listings.of(provider) if i.id == lease.instance_id), None)
            if found is None:
                found = provider.instance(lease.instance_id or "")
        except InstanceNotFound:
            lost.lose(self._world, lease.id, "the machine vanished at the provider")
            return
        except ProviderError as exc:
            # Then it may be we who are cut off from everything: the job may well be running, and its home waits for it.
            log.warning("node=%s is silent since %s and its provider cannot be asked: %s", lease.node, since, exc)
            return
        if taken_away(found):
            lost.lose(self._world, lease.id, told(found))
        elif now - since >= self._lost_after:
            why = f"the machine did not answer for {round((now - since).total_seconds())} s (lost_after_s)"
            lost.lose(self._world, lease.id, why)


def taken_away(instance: Instance) -> bool:
    """The provider is ending the machine, or has stopped it, and not because we asked.

    One that it starts again (an outbid machine whose bid wins anew) is another boot: no node of ours comes back by itself.
    """
    return instance.state in {InstanceState.STOPPING, InstanceState.STOPPED}


def not_as_ordered(lease: Lease, instance: Instance) -> str | None:
    """Why the machine is not what was bought, as its provider tells; None: it is, or nobody tells."""
    if lease.capacity_type is None or instance.capacity_type in {None, lease.capacity_type}:
        return None
    return f"it was rented as {instance.capacity_type}, and ordered as {lease.capacity_type}"


def told(instance: Instance) -> str:
    """Why such a machine is lost."""
    return f"the provider takes the machine away ({instance.raw_state})"
