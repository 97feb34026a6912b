"""Holds three lists against each other: the provider's instances, the ledger, Slurm's nodes."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime, timedelta
from functools import partial

from broker.core.errors import InstanceNotFound, NotFound
from broker.core.leases import HOLDS_NODE, Lease, LeaseState, lease_of_label
from broker.core.offers import Instance, InstanceState
from broker.core.usage import UsageEvent, UsageKind
from broker.db import leases, residue, usage
from broker.db.engine import reading
from broker.db.residue import Left
from broker.providers.base import Provider
from broker.reconcile import lost
from broker.reconcile.driver import Task
from broker.reconcile.residue import INSTANCE
from broker.reconcile.watch import taken_away, told
from broker.reconcile.world import Happening, World
from broker.services import purchases

log = logging.getLogger("broker.sweep")

# A listing can miss an instance that lives (list lag, half a page): only this many in a row count.
_MISSES = 3
_POWERED_DOWN = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"})


class Sweep:
    """Remembers, between passes, what looked wrong and since when: one odd listing proves nothing."""

    def __init__(self, world: World, grace: timedelta, wished: Callable[[], Set[str]] = frozenset) -> None:
        """`wished`: nodes that Slurm has asked for and that nobody has looked at yet."""
        self._world = world
        self._grace = grace
        self._wished = wished
        self._orphans: dict[tuple[str, str], datetime] = {}
        self._missing: Counter[str] = Counter()
        self._last_seen: dict[str, datetime] = {}
        self._forgotten: dict[str, datetime] = {}
        self._unbacked: dict[str, datetime] = {}

    def find(self) -> Iterable[Task]:
        """A task for each credential, and one for Slurm's nodes."""
        for provider in self._world.providers.values():
            yield Task(key=f"sweep:{provider.name}", run=partial(self.instances, provider))
        yield Task(key="sweep:nodes", run=self.nodes)

    def instances(self, provider: Provider) -> None:
        """End orphans of ours; end leases whose instance is gone. Instances without our label are never touched."""
        with reading(self._world.engine) as db:
            before = {lease.id for lease in leases.living(db)}
        seen = provider.instances()
        with reading(self._world.engine) as db:
            living = {lease.id: lease for lease in leases.living(db)}
        for instance in seen:
            self._orphan(provider, instance, living)
        known = {instance.id: instance for instance in seen}
        for lease in living.values():
            # Only leases older than the listing: one bought while it was under way cannot be in it.
            if lease.provider == provider.name and lease.instance_id is not None and lease.id in before:
                found = known.get(lease.instance_id)
                if found is not None and taken_away(found):
                    lost.lose(self._world, lease.id, told(found))
                elif found is not None and found.notice is not None:
                    self._say_once(lease, f"notice of the provider: {found.notice}")
                self._vanished(provider, lease, found is not None)
        self._confirm(provider, known)

    def nodes(self) -> None:
        """Slurm's nodes against the ledger, each difference only when it has stood for the grace.

        A machine whose node Slurm holds for powered down was forgotten by a lost call: it is let go. A node of ours
        that Slurm uses, wakes or holds for broken while no lease stands behind it is powered down: that frees its name
        and requeues its job. Slurm itself does so neither after ResumeTimeout nor for a machine that is gone.
        """
        now = self._world.clock()
        nodes = [node for node in self._world.slurm.nodes() if node.name in self._world.site.addresses]
        with reading(self._world.engine) as db:
            held = {lease.node: lease for lease in leases.in_states(db, HOLDS_NODE)}
        down = {node.name for node in nodes if node.flags & _POWERED_DOWN and node.state != "DOWN"}
        forgotten = {name for name in down if name in held and held[name].state is LeaseState.READY}
        unbacked = {node.name for node in nodes if node.name not in down and node.name not in held}
        if unbacked:
            # Behind with its calls, the daemon would power down what Slurm has just woken, and again when it wakes it anew.
            unbacked -= self._wished()
        for name in self._stood(self._forgotten, forgotten, now):
            with self._world.engine.begin() as db:
                purchases.give_up(db, held[name], "Slurm holds the node for powered down", now)
            self._world.nudge()
        if stood := self._stood(self._unbacked, unbacked, now):
            log.warning("nodes=%s have no machine: powered down", ",".join(sorted(stood)))
            self._world.happened(Happening.NODE_UNBACKED, None, len(stood))
            self._world.slurm.power_down_force(stood, "broker: no machine stands behind the node")
            for name in stood:
                del self._unbacked[name]  # Slurm may wake it anew at once: that has its own grace

    def _stood(self, since: dict[str, datetime], names: set[str], now: datetime) -> set[str]:
        """Those of `names` that were among them for the whole grace; `since` remembers."""
        for name in since.keys() - names:
            del since[name]
        return {name for name in names if now - since.setdefault(name, now) >= self._grace}

    def _orphan(self, provider: Provider, instance: Instance, living: dict[str, Lease]) -> None:
        lease_id = lease_of_label(self._world.site.cluster, instance.label)
        ours = living.get(lease_id or "")
        # One purchase may have brought two machines: the second is an orphan, although its lease lives.
        double = ours is not None and ours.instance_id not in {None, instance.id}
        known = any(lease.instance_id == instance.id and lease.provider == provider.name for lease in living.values())
        if lease_id is None or (ours is not None and not double) or known or instance.state is InstanceState.STOPPING:
            self._orphans.pop((provider.name, instance.id), None)
            return
        now = self._world.clock()
        since = self._orphans.setdefault((provider.name, instance.id), now)
        if now - since < self._grace:
            return
        left = Left(
            provider=provider.name,
            kind=INSTANCE,
            thing=instance.id,
            label=instance.label or "",
            said=f"{instance.instance_type or 'a machine'}, {instance.raw_state}, without a living lease",
        )
        with self._world.engine.begin() as db:
            first = residue.found(db, left, now)
        if first:
            log.error(
                "provider=%s instance=%s label=%s is an orphan: ended", provider.name, instance.id, instance.label
            )
            self._world.happened(Happening.ORPHAN_ENDED, provider.name, 1)
        try:
            with self._world.engine.begin() as db:
                ours = leases.get(db, lease_id)
                purchases.take_in(db, ours, provider.name, instance, self._world.site.cluster, since, now)
            self._world.nudge()
        except NotFound:  # its lease was lost with a ledger: there is nobody to account it to
            with contextlib.suppress(InstanceNotFound):
                provider.delete(instance.id)

    def _say_once(self, lease: Lease, what: str) -> None:
        with reading(self._world.engine) as db:
            said = any(event.reason == what for event in leases.events(db, lease.id))
        if not said:
            log.warning("lease_id=%s node=%s %s", lease.id, lease.node, what)
            with self._world.engine.begin() as db:
                current = leases.get(db, lease.id)
                leases.note(db, current, what, self._world.clock(), was=current.state)

    def _confirm(self, provider: Provider, known: Mapping[str, Instance]) -> None:
        """Orphans that we ended are gone when the provider says so."""
        with reading(self._world.engine) as db:
            asked = [each.left.thing for each in residue.still_open(db, provider.name) if each.left.kind == INSTANCE]
        for instance_id in asked:
            if instance_id in known:
                continue
            try:
                provider.instance(instance_id)
            except InstanceNotFound:
                with self._world.engine.begin() as db:
                    residue.gone(db, provider.name, INSTANCE, [instance_id], self._world.clock())

    def _vanished(self, provider: Provider, lease: Lease, seen: bool) -> None:
        now = self._world.clock()
        if seen:
            self._missing.pop(lease.id, None)
            self._last_seen[lease.id] = now
            return
        self._missing[lease.id] += 1
        if self._missing[lease.id] < _MISSES or lease.state not in {LeaseState.READY, LeaseState.BOOTSTRAPPING}:
            return
        try:
            provider.instance(lease.instance_id or "")
        except InstanceNotFound:
            self._end(lease, now)

    def _end(self, lease: Lease, now: datetime) -> None:
        with self._world.engine.begin() as db:
            if lease.price_per_hour is not None and lease.currency is not None:
                usage.record(
                    db,
                    UsageEvent(
                        lease_id=lease.id,
                        kind=UsageKind.END,
                        not_before=self._last_seen.get(lease.id, lease.state_since),
                        not_after=now,
                        price_per_hour=lease.price_per_hour,
                        currency=lease.currency,
                    ),
                )
        lost.lose(self._world, lease.id, "the machine vanished at the provider")
