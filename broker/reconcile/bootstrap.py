"""Makes a bought machine a node: waits for its address and the host key we gave it, then runs the join, slurmd last."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any

from broker.core.errors import InstanceNotFound, NodeUnreachable, ProviderError, SlurmUnavailable, StepFailed
from broker.core.leases import Lease, LeaseState
from broker.core.offers import Instance, InstanceState
from broker.db import leases, steps
from broker.db.engine import reading
from broker.provisioning.run import run_join
from broker.provisioning.steps import console_step
from broker.reconcile import breakers
from broker.reconcile.driver import Task
from broker.reconcile.join import HOME_STEP, LAST_STEP
from broker.reconcile.nodes import log_file, open_node
from broker.reconcile.watch import not_as_ordered, taken_away, told
from broker.reconcile.world import World
from broker.services import purchases

log = logging.getLogger("broker.bootstrap")

# How often a booting machine is knocked at: shorter wakes sshd for nothing, longer is added to every boot.
_KNOCK_AGAIN = timedelta(seconds=0.5)
_SLURM_AWAY = timedelta(seconds=5)
# A call of the credential for each machine that is up but does not answer: shorter uses them up.
_ASK_AGAIN = timedelta(seconds=5)
_VANISHED = "the machine vanished at the provider while it booted"
_LISTING_AGE = timedelta(seconds=2)
# Lambda bills `unhealthy` machines; some recover within a minute, most never do.
_UNHEALTHY_LIMIT = timedelta(minutes=3)


class _Fault(Enum):
    """Whose it is that a machine did not become a node."""

    MACHINE = auto()
    PROVIDER = auto()
    """Or its host's: it says nothing of our image."""
    NONE = auto()


def find(world: World) -> Iterable[Task]:
    """A task for each machine that is not joined yet."""
    now = world.clock()
    with reading(world.engine) as db:
        booting = leases.due(db, [LeaseState.BOOTSTRAPPING], now)
        joined = steps.finished(db, LAST_STEP, [LeaseState.BOOTSTRAPPING]) if booting else set()
    for lease_id in booting:
        if lease_id not in joined:
            yield Task(key=f"lease:{lease_id}", run=partial(bootstrap, world, lease_id))


def bootstrap(world: World, lease_id: str) -> None:
    """Take one machine a step nearer to being a node."""
    with reading(world.engine) as db:
        lease = leases.get(db, lease_id)
    if lease.state is not LeaseState.BOOTSTRAPPING:
        return
    if trouble := _out_of_time(world, lease):
        _abandon(world, lease, *trouble)
        return
    if lease.address is None:
        arrived = _look_for_address(world, lease)
        if arrived is None:
            return
        lease = arrived
    try:
        _join(world, lease)
    except NodeUnreachable as exc:
        if world.unreachable.get(lease.id) != str(exc):
            world.unreachable[lease.id] = str(exc)
            log.info("lease_id=%s node=%s not reachable yet: %s", lease.id, lease.node, exc)
        if gone := _gone(world, lease):
            _abandon(world, lease, gone, _Fault.PROVIDER)
            return
        with world.engine.begin() as db:
            current = leases.get(db, lease.id)
            if current.state is LeaseState.BOOTSTRAPPING:
                leases.amend(db, current, None, world.clock(), not_before=world.clock() + _KNOCK_AGAIN)
    except StepFailed as exc:
        if _slurm_is_away(world):
            # slurmd cannot start without its controller: that is not the machine's fault, nor paid for twice.
            with world.engine.begin() as db:
                leases.amend(db, leases.get(db, lease.id), None, world.clock(), not_before=world.clock() + _SLURM_AWAY)
            return
        _keep_console(world, lease)
        _abandon(world, lease, f"the machine is no good: {exc}", _Fault.MACHINE)


def _gone(world: World, lease: Lease) -> str | None:
    """Why a machine that does not answer never will, as its provider tells; None: it may, or we do not know."""
    provider, now = world.provider_of(lease), world.clock()
    asked = world.seen_at_provider.setdefault(lease.id, now)
    if provider is None or now - asked < _ASK_AGAIN:
        return None
    world.seen_at_provider[lease.id] = now
    try:
        found = next((i for i in world.listings.of(provider) if i.id == lease.instance_id), None)
        if found is None and now - lease.state_since > timedelta(seconds=provider.visibility_lag_seconds):
            found = provider.instance(lease.instance_id or "")
    except InstanceNotFound:
        return _VANISHED
    except ProviderError as exc:
        log.info("lease_id=%s does not answer, and its provider cannot be asked: %s", lease.id, exc)
        return None
    return told(found) if found is not None and taken_away(found) else None


def _slurm_is_away(world: World) -> bool:
    try:
        world.slurm.nodes()
    except SlurmUnavailable:
        return True
    return False


def _out_of_time(world: World, lease: Lease) -> tuple[str, _Fault] | None:
    now = world.clock()
    limit = world.site.boot_timeout.get(lease.provider or "")
    if limit is not None and now - lease.state_since > limit:
        seen = world.unreachable.get(lease.id, "no address")
        return f"not joined {limit} after it was bought (boot_timeout_s): {seen}", _Fault.MACHINE
    if now >= lease.deadline:
        # It may have been bought late: that it is slow, its own time limit tells.
        return "not joined before Slurm's ResumeTimeout", _Fault.NONE
    return None


def _look_for_address(world: World, lease: Lease) -> Lease | None:
    """The lease with its address, None: not known yet."""
    provider = world.provider_of(lease)
    if provider is None:
        return None
    now = world.clock()
    seen: Instance | None = None
    try:
        seen = next((i for i in world.listings.of(provider) if i.id == lease.instance_id), None)
        if seen is None and now - lease.state_since > timedelta(seconds=provider.visibility_lag_seconds):
            seen = provider.instance(lease.instance_id or "")
    except InstanceNotFound:
        _abandon(world, lease, _VANISHED, _Fault.PROVIDER)
        return None
    except ProviderError as exc:
        log.warning("lease_id=%s address not known, the provider does not answer: %s", lease.id, exc)
    if seen is not None and taken_away(seen):
        reason = f"the provider ended the machine while it booted ({seen.raw_state})"
        _abandon(world, lease, reason, _Fault.PROVIDER)
        return None
    if seen is not None and (wrong := not_as_ordered(lease, seen)):
        _abandon(world, lease, wrong, _Fault.PROVIDER)
        return None
    if seen is not None and seen.state is InstanceState.UNHEALTHY and now - lease.state_since > _UNHEALTHY_LIMIT:
        _abandon(world, lease, f"the machine is {seen.raw_state} since it was bought", _Fault.MACHINE)
        return None
    with world.engine.begin() as db:
        if seen is not None and seen.address is not None:
            return leases.amend(
                db,
                lease,
                f"it has an address: {seen.address}",
                now,
                address=seen.address,
                ssh_port=seen.ssh_port,
                private_address=seen.private_address,
                not_before=None,
            )
        leases.amend(db, lease, None, now, not_before=now + _LISTING_AGE)
    return None


def _join(world: World, lease: Lease) -> None:
    with reading(world.engine) as db:
        done = steps.of_lease(db, lease.id)
    plan = world.join_plan(lease)

    def on_step(name: str, outputs: dict[str, str], seconds: float) -> None:
        now = world.clock()
        with world.engine.begin() as db:
            current = leases.get(db, lease.id)
            _still_ours(current, lease)
            steps.record(db, lease.id, name, outputs, seconds, now)
            changes: dict[str, Any] = {}
            if name == "host_key":
                changes["host_key"] = outputs["public_key"]
            if name == "overlay":
                changes["overlay_key"] = outputs["public_key"]
            if changes:
                leases.amend(db, current, None, now, **changes)
        if name == HOME_STEP:
            world.nudge()

    def add_peer(public_key: str) -> None:
        address = str(world.site.addresses[lease.node])
        with reading(world.engine) as db:
            _still_ours(leases.get(db, lease.id), lease)
        # Whoever held the address before is fenced by this: one key an address.
        world.net.remove_address(address)
        world.net.set_peer(public_key, address)

    # Between its making and its first use we cannot know which of its two keys the machine answers with.
    with open_node(world, lease, done.get("host_key_made", {}).get("public_key")) as shell:
        run_join(shell, plan, done, on_step, add_peer, clock=world.clock)
    log.info("lease_id=%s node=%s joined, slurmd started", lease.id, lease.node)
    world.nudge()
    _keep_console(world, lease)


def _still_ours(current: Lease, joining: Lease) -> None:
    """NodeUnreachable: the lease was given up, or its machine became another node, while it joined."""
    if current.state is not LeaseState.BOOTSTRAPPING or current.node != joining.node:
        raise NodeUnreachable(f"lease {joining.id} is {current.state} as {current.node} meanwhile")


def _abandon(world: World, lease: Lease, reason: str, fault: _Fault) -> None:
    now = world.clock()
    with world.engine.begin() as db:
        purchases.abandon(db, leases.get(db, lease.id), reason, now)
        if fault is not _Fault.NONE:
            breakers.bad_boot(world, db, lease, reason, now, vanished=fault is _Fault.PROVIDER)
    log.warning("lease_id=%s node=%s abandoned: %s", lease.id, lease.node, reason)
    world.nudge()


def _keep_console(world: World, lease: Lease) -> None:
    """What the machine said itself, for whoever asks why it failed."""
    try:
        with reading(world.engine) as db:
            lease = leases.get(db, lease.id)  # its host key was replaced meanwhile
        with open_node(world, lease) as shell:
            log_file(world, lease, "console").write_text(shell.run(console_step()).text)
    except (NodeUnreachable, StepFailed) as exc:
        log.info("lease_id=%s console not fetched: %s", lease.id, exc)
