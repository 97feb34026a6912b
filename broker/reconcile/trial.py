"""Test purchases (`broker provider test --buy`): create, accept, destroy.

The lease of one is `releasing` before anything is bought, and `release` lets it be only until a time that is put forward
at each step here. So whatever becomes of us, of the answer or of whoever asked, `release` finds the machine by its label
and ends it, or proves that there never was one; nothing can make it a node, and nothing is bought twice.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from broker.core.blocks import Block, Cause, told
from broker.core.demand import Shape
from broker.core.errors import InstanceNotFound, NodeUnreachable, OutcomeUnknown, ProviderError, Refused, StepFailed
from broker.core.leases import Lease, LeaseState, label_for, new_lease_id
from broker.core.offers import InstanceSpec, InstanceState, Offer
from broker.db import blocks, leases, purchasing
from broker.db.engine import reading
from broker.provisioning.acceptance import accept
from broker.provisioning.keys import new_host_key, user_data
from broker.provisioning.run import run_step
from broker.provisioning.steps import facts_step
from broker.reconcile import launch, refusals
from broker.reconcile.driver import Task
from broker.reconcile.nodes import open_node
from broker.reconcile.watch import not_as_ordered, taken_away
from broker.reconcile.world import World

log = logging.getLogger("broker.trial")

# Longer than any one step, a create included: `release` waits so long for us to come back. Shorter: it ends the machine
# under our hands; longer: after a crash the machine costs money for nothing.
_HANDS_OFF = timedelta(seconds=180)
_LOOK_AGAIN_S = 2.0
_PATIENCE = timedelta(minutes=20)


@dataclass
class _Trial:
    """What only this process knows of one: with it gone, the lease just ends."""

    shape: Shape
    user_data: str
    until: datetime
    sent: bool = False
    next_look: datetime | None = None


class Trials:
    """One a daemon."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[str, _Trial] = {}
        self._lock = threading.Lock()

    def start(self, offer: Offer, shape: Shape, max_price: Decimal, actor: str) -> str:
        """Write the lease of a test purchase of `offer`, to be accepted as a `shape`, and begin; its id.

        Refused: it is dearer than `max_price` an hour, a limit of the site would be passed, or buying is paused.
        """
        if offer.price_per_hour > max_price:
            raise Refused(f"{offer.id} costs {offer.price_per_hour} {offer.currency}/h now, more than {max_price}")
        world, now = self._world, self._world.clock()
        private_key, public_key = new_host_key()
        lease_id = new_lease_id()
        with world.engine.begin() as db:
            purchasing.take_turn(db)
            self._allowed(offer, blocks.current(db, offer.provider), purchasing.paused(db), leases.living(db), now)
            lease = Lease(
                id=lease_id,
                node=f"trial-{offer.provider}",
                shape=shape.name,
                state=LeaseState.REQUESTED,
                state_since=now,
                version=1,
                created_at=now,
                requested_at=now,
                deadline=now + _PATIENCE,
                request_id=f"trial-{lease_id}",
                attempt=1,
                epoch=1,
                provider=offer.provider,
                offer_id=offer.id,
                instance_type=offer.instance_type,
                zone=offer.zone,
                capacity_type=offer.capacity_type,
                machine=offer.machine,
                price_per_hour=offer.price_per_hour,
                currency=offer.currency,
            )
            leases.add(db, lease, f"a test purchase, asked for by {actor}", now)
            price = f"{offer.price_per_hour} {offer.currency}/h"
            said = f"buying {offer.instance_type} in {offer.zone} from {offer.provider} at {price} for a test"
            label = label_for(world.site.cluster, lease_id, 1)
            lease = leases.move(db, lease, LeaseState.LAUNCHING, said, now, label=label, host_key=public_key)
            leases.move(
                db,
                lease,
                LeaseState.RELEASING,
                "a test purchase is given back when it has answered",
                now,
                fenced_at=now,
                not_before=now + _HANDS_OFF,
            )
        with self._lock:
            self._running[lease_id] = _Trial(
                shape=shape, user_data=user_data(private_key), until=now + self._patience(offer.provider)
            )
        log.info("lease_id=%s provider=%s offer=%s test purchase by=%s", lease_id, offer.provider, offer.id, actor)
        world.nudge()
        return lease_id

    def find(self) -> Iterable[Task]:
        """A task for each test that waits for its next step."""
        now = self._world.clock()
        with self._lock:
            due = [key for key, each in self._running.items() if each.next_look is None or each.next_look <= now]
        for lease_id in due:
            yield Task(key=f"lease:{lease_id}", run=partial(self.step, lease_id))

    def step(self, lease_id: str) -> None:
        """Take one test a step further."""
        with self._lock:
            trial = self._running.get(lease_id)
        if trial is None:
            return
        with reading(self._world.engine) as db:
            lease = leases.get(db, lease_id)
        if lease.state is not LeaseState.RELEASING:
            self._over(lease, None)
            return
        now = self._world.clock()
        trial.next_look = now + timedelta(seconds=_LOOK_AGAIN_S)
        if not trial.sent:
            self._buy(lease, trial)
        elif now >= trial.until:
            self._over(
                lease, f"not accepted: {self._world.unreachable.get(lease.id, 'no address')} after {self._told(lease)}"
            )
        elif lease.address is None:
            self._look_for_address(lease)
        else:
            self._accept(lease, trial)

    def _buy(self, lease: Lease, trial: _Trial) -> None:
        world = self._world
        provider = world.providers[lease.provider or ""]
        if not provider.reserve_create():
            self._hold(lease)
            return
        # From here on the machine may exist: `release` looks for it as long as the provider may hide it.
        now = world.clock()
        with world.engine.begin() as db:
            lease = leases.amend(db, leases.get(db, lease.id), None, now, state_since=now, not_before=now + _HANDS_OFF)
        trial.sent = True
        spec = InstanceSpec(
            label=lease.label or "",
            instance_type=lease.instance_type or "",
            zone=lease.zone or "",
            user_data=trial.user_data,
            ssh_public_key=world.site.ssh_public_key,
            price_per_hour=lease.price_per_hour,
            disk_gib=trial.shape.disk_gib,
            machine=lease.machine,
            **({"capacity_type": lease.capacity_type} if lease.capacity_type is not None else {}),
        )
        try:
            instance = provider.create(spec)
        except OutcomeUnknown as exc:
            launch.answer_lost(world, lease, exc)
            self._over(lease, f"not bought, as far as we know: {exc}")
        except ProviderError as exc:
            launch.refused(world, lease, exc)
            self._over(lease, f"not bought: {exc}")
        else:
            launch.bought(world, lease, instance, now, late="bought")

    def _look_for_address(self, lease: Lease) -> None:
        world, provider = self._world, self._world.providers[lease.provider or ""]
        now = world.clock()
        seen = next((each for each in world.listings.of(provider) if each.id == lease.instance_id), None)
        if seen is None and now - lease.state_since > timedelta(seconds=provider.visibility_lag_seconds):
            try:
                seen = provider.instance(lease.instance_id or "")
            except InstanceNotFound:
                self._over(lease, "not accepted: the machine vanished at the provider while it booted")
                return
        if seen is not None and (taken_away(seen) or seen.state is InstanceState.UNHEALTHY):
            self._over(lease, f"not accepted: the machine is {seen.raw_state}")
        elif seen is not None and (wrong := not_as_ordered(lease, seen)):
            self._over(lease, f"not accepted: {wrong}")
        elif seen is not None and seen.address is not None:
            with world.engine.begin() as db:
                leases.amend(
                    db,
                    leases.get(db, lease.id),
                    f"it has an address: {seen.address}, after {self._told(lease)}",
                    now,
                    address=seen.address,
                    ssh_port=seen.ssh_port,
                    not_before=now + _HANDS_OFF,
                )
        else:
            self._hold(lease)

    def _accept(self, lease: Lease, trial: _Trial) -> None:
        world = self._world
        self._hold(lease)
        try:
            with open_node(world, lease) as shell:
                facts = run_step(shell, facts_step())
        except NodeUnreachable as exc:
            world.unreachable[lease.id] = str(exc)
            return
        except StepFailed as exc:
            self._over(lease, f"not accepted: {exc}")
            return
        problems = accept(trial.shape, facts, world.clock(), world.site.cpu_arch)
        verdict = f"not accepted: {'; '.join(problems)}" if problems else f"accepted as a node of shape {lease.shape}"
        self._over(lease, f"{verdict}, after {self._told(lease)}")

    def _hold(self, lease: Lease) -> None:
        """`release` keeps its hands off for a while longer."""
        now = self._world.clock()
        if lease.not_before is None or lease.not_before - now < _HANDS_OFF / 2:
            with self._world.engine.begin() as db:
                leases.amend(db, leases.get(db, lease.id), None, now, not_before=now + _HANDS_OFF)

    def _over(self, lease: Lease, verdict: str | None) -> None:
        """`release` does the rest."""
        with self._lock:
            self._running.pop(lease.id, None)
        self._world.unreachable.pop(lease.id, None)
        if verdict is not None:
            now = self._world.clock()
            with self._world.engine.begin() as db:
                leases.amend(db, leases.get(db, lease.id), verdict, now, not_before=None, reason=verdict)
            log.info("lease_id=%s provider=%s test purchase: %s", lease.id, lease.provider, verdict)
        self._world.nudge()

    def _told(self, lease: Lease) -> str:
        return f"{(self._world.clock() - lease.state_since).total_seconds():.0f} s"

    def _patience(self, provider: str) -> timedelta:
        return self._world.site.boot_timeout.get(provider, _PATIENCE)

    def _allowed(
        self, offer: Offer, standing: Iterable[Block], paused: str | None, living: list[Lease], now: datetime
    ) -> None:
        if paused is not None:
            raise Refused(f"buying is paused: {paused}; `broker resume` ends that")
        for block in standing:
            if block.cause in {Cause.PAUSED, Cause.REFUSED} and block.is_open(now):
                raise Refused(f"nothing is bought from {offer.provider}: {told(block)}")
        bought = [lease for lease in living if lease.offer_id is not None]
        rate = sum((lease.price_per_hour or Decimal(0) for lease in bought), offer.price_per_hour)
        limits = self._world.site.limits
        if (why := refusals.over_limit(limits, len(bought) + 1, rate)) is not None:
            raise Refused(why)
        ceiling, per_gpu = (
            limits.max_price_per_gpu_hour,
            offer.price_per_hour / max(1, offer.hardware.accelerator_count),
        )
        if ceiling is not None and per_gpu > ceiling:
            raise Refused(f"{offer.id} is above [limits] max_price_per_gpu_hour = {ceiling}")
