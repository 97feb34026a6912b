"""draining → releasing → released: the fence first, then `delete` until the provider says that nothing is there."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from broker.core.errors import (
    BrokerError,
    CredentialsRefused,
    InstanceNotFound,
    NotFound,
    ProviderError,
    StaleLease,
)
from broker.core.leases import Lease, LeaseState
from broker.core.offers import InstanceState
from broker.core.usage import UsageEvent, UsageKind
from broker.db import jobs, leases, usage
from broker.db.engine import reading
from broker.providers.base import Provider
from broker.provisioning.steps import drain_steps
from broker.reconcile import lost
from broker.reconcile.driver import Task
from broker.reconcile.nodes import run_on_node
from broker.reconcile.world import World
from broker.services import purchases

log = logging.getLogger("broker.release")

# Between two looks at a machine that is going: shorter uses up a credential's calls, longer tells the end late.
_LOOK_AGAIN = timedelta(seconds=2)
_TROUBLE_PAUSE = timedelta(seconds=15)
_ASKED = "the provider is asked to end the machine"


def find(world: World) -> Iterable[Task]:
    """A task for each lease on its way out."""
    now = world.clock()
    with reading(world.engine) as db:
        going = leases.due(db, [LeaseState.DRAINING, LeaseState.RELEASING], now)
    for lease_id in going:
        yield Task(key=f"lease:{lease_id}", run=partial(release, world, lease_id))


def release(world: World, lease_id: str) -> None:
    """Take one lease a step nearer to its confirmed end."""
    with reading(world.engine) as db:
        lease = leases.get(db, lease_id)
    if lease.state is LeaseState.DRAINING:
        _drain(world, lease)
        return
    if lease.fenced_at is None:
        lease = _try_to_fence(world, lease)
    if lease.instance_id is None:
        lease = _look_for_instance(world, lease)
    if lease.state is LeaseState.RELEASING and lease.instance_id is not None:
        _give_back(world, lease)
    if lost.is_lost(lease):
        lost.requeue(world, lease)


def _drain(world: World, lease: Lease) -> None:
    """slurmd stops and files are flushed while the node can still be reached; then it is fenced whatever came of that."""
    try:
        run_on_node(world, lease, drain_steps())
    except BrokerError as exc:
        log.warning("lease_id=%s node=%s could not be stopped in order: %s", lease.id, lease.node, exc)
    lease = _try_to_fence(world, lease)
    with world.engine.begin() as db:
        leases.move(db, lease, LeaseState.RELEASING, lease.reason or "drained", world.clock(), not_before=None)
    world.nudge()


def _try_to_fence(world: World, lease: Lease) -> Lease:
    """A domain that does not answer must not keep a machine on our bill: the next pass fences, or its end does.

    The next machine of the name takes the address over: its join removes whatever key holds it first, or fails.
    """
    try:
        return _fence(world, lease)
    except StaleLease:
        raise
    except BrokerError as exc:
        log.error("lease_id=%s node=%s is not fenced yet: %s", lease.id, lease.node, exc)
        return lease


def _fence(world: World, lease: Lease) -> Lease:
    """Take the machine's peer and its users' homes away: from here on it cannot act for the node name any more."""
    with reading(world.engine) as db:
        exported = [job for job in jobs.open_jobs(db) if job.lease_id == lease.id]
    for job in exported:
        world.as_user.unexport_home(job.user, lease.id)
    if lease.overlay_key is not None:
        world.net.remove_peer(lease.overlay_key)
    now = world.clock()
    with world.engine.begin() as db:
        for job in exported:
            jobs.end(db, job.job_id, lease.id, now)
        return leases.amend(db, lease, None, now, fenced_at=now)


def _look_for_instance(world: World, lease: Lease) -> Lease:
    """Given back while its purchase was under way: the machine is found by its label, or proven never to have been."""
    now = world.clock()
    provider = _provider(world, lease)
    found = next((i for i in provider.instances() if i.label == lease.label), None)
    if found is not None:
        with world.engine.begin() as db:
            if lease.price_per_hour is not None and lease.currency is not None:
                usage.record(
                    db,
                    UsageEvent(
                        lease_id=lease.id,
                        kind=UsageKind.START,
                        not_before=leases.launched_at(db, lease),
                        not_after=now,
                        price_per_hour=found.price_per_hour or lease.price_per_hour,
                        currency=lease.currency,
                    ),
                )
            return leases.amend(db, lease, f"found by its label: instance {found.id}", now, instance_id=found.id)
    with world.engine.begin() as db:
        if now - max(lease.state_since, world.started_at) > timedelta(seconds=2 * provider.visibility_lag_seconds):
            purchases.never_seen(db, lease, now)
            return leases.move(
                db, lease, LeaseState.RELEASED, "no machine with its label: nothing was bought", now, not_before=None
            )
        return leases.amend(db, lease, None, now, not_before=now + _LOOK_AGAIN)


def _give_back(world: World, lease: Lease) -> None:
    provider = _provider(world, lease)
    instance_id = lease.instance_id or ""
    now = world.clock()
    try:
        if not _is_ending(world, provider, instance_id):
            provider.delete(instance_id)
            lease = _say_once(world, lease, _ASKED)
    except InstanceNotFound as exc:
        with reading(world.engine) as db:
            start = usage.of_lease(db, lease.id).get(UsageKind.START)
            asked = _was_asked(db, lease)
        bought_at = start.not_after if start else lease.state_since
        # A machine bought a moment ago may not be visible yet: then "no such instance" proves nothing, unless the
        # provider took our word to end it before.
        if asked or now - bought_at > timedelta(seconds=2 * provider.visibility_lag_seconds):
            _ended(world, lease)
        else:
            _again(world, lease, f"not visible at the provider yet: {exc}", _LOOK_AGAIN)
        return
    except CredentialsRefused as exc:
        log.error("lease_id=%s CANNOT BE GIVEN BACK, it goes on costing money: %s", lease.id, exc)
        _again(world, lease, f"the provider refuses our credential, the machine goes on costing money: {exc}")
        return
    except ProviderError as exc:
        _again(world, lease, f"could not be given back yet: {exc}")
        return
    with world.engine.begin() as db:
        leases.amend(db, lease, None, now, not_before=now + _LOOK_AGAIN)


def _was_asked(db: Connection, lease: Lease) -> bool:
    return any(event.reason == _ASKED for event in leases.events(db, lease.id))


def _is_ending(world: World, provider: Provider, instance_id: str) -> bool:
    """Whether the provider is at it already. InstanceNotFound: it is gone. Not knowing is no reason not to ask."""
    try:
        listed = next((i for i in world.listings.of(provider) if i.id == instance_id), None)
        if listed is None:
            listed = provider.instance(instance_id)
    except (InstanceNotFound, CredentialsRefused):
        raise
    except ProviderError as exc:
        log.warning("instance=%s its state is not known, it is ended all the same: %s", instance_id, exc)
        return False
    return listed.state is InstanceState.STOPPING


def _say_once(world: World, lease: Lease, what: str) -> Lease:
    with world.engine.begin() as db:
        said = any(event.reason == what for event in leases.events(db, lease.id))
        return leases.amend(db, lease, None if said else what, world.clock())


def _again(world: World, lease: Lease, reason: str, pause: timedelta = _TROUBLE_PAUSE) -> None:
    now = world.clock()
    with world.engine.begin() as db:
        said = any(event.reason == reason for event in leases.events(db, lease.id))
        leases.amend(db, lease, None if said else reason, now, not_before=now + pause)
    log.warning("lease_id=%s %s", lease.id, reason)


def _ended(world: World, lease: Lease) -> None:
    now = world.clock()
    with world.engine.begin() as db:
        start = usage.of_lease(db, lease.id).get(UsageKind.START)
        asked = _was_asked(db, lease)
        leases.move(
            db, lease, LeaseState.RELEASED, "the provider confirms that the machine is gone", now, not_before=None
        )
        if start is not None:
            usage.record(
                db,
                UsageEvent(
                    lease_id=lease.id,
                    kind=UsageKind.END,
                    # It lived until we asked; one that ended by itself may have done so at any time.
                    not_before=max(start.not_after, lease.state_since) if asked else start.not_before,
                    not_after=now,
                    price_per_hour=start.price_per_hour,
                    currency=start.currency,
                ),
            )
    log.info("lease_id=%s node=%s instance=%s released", lease.id, lease.node, lease.instance_id)
    world.nudge()


def _provider(world: World, lease: Lease) -> Provider:
    provider = world.provider_of(lease)
    if provider is None:
        raise NotFound(
            f"lease {lease.id} holds instance {lease.instance_id} of credential {lease.provider}, which is gone from the "
            "configuration: put [provider." + f"{lease.provider}] back, or the machine is never given back"
        )
    return provider
