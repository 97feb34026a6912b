"""requested → launching → bootstrapping: the intent, the create of the allotted offer. And adoption after a lost answer."""

import contextlib
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from broker.core.errors import NoCapacity, NotFound, OutcomeUnknown, ProviderError, RateLimited, StaleLease
from broker.core.leases import Lease, LeaseState, label_for
from broker.core.observations import Observation, Source
from broker.core.offers import CapacityType, Instance, InstanceSpec, Offer
from broker.core.usage import UsageEvent, UsageKind
from broker.db import blocks, leases, observations, offers, purchasing, usage
from broker.db.engine import reading
from broker.providers.base import Provider
from broker.provisioning.keys import new_host_key, user_data
from broker.reconcile import breakers, refusals
from broker.reconcile.driver import Task
from broker.reconcile.world import World
from broker.services import purchases

log = logging.getLogger("broker.launch")

_LOOK_AGAIN = timedelta(seconds=2)


def find(world: World) -> Iterable[Task]:
    """A task for each lease that waits for its purchase."""
    now = world.clock()
    with reading(world.engine) as db:
        waiting = leases.due(db, [LeaseState.REQUESTED, LeaseState.LAUNCHING], now, allotted=True)
    for lease_id in waiting:
        yield Task(key=f"lease:{lease_id}", run=partial(launch, world, lease_id))


def launch(world: World, lease_id: str) -> None:
    """Take one lease a step nearer to its machine."""
    with reading(world.engine) as db:
        lease = leases.get(db, lease_id)
    if lease.state is LeaseState.REQUESTED:
        _buy(world, lease)
    elif lease.state is LeaseState.LAUNCHING:
        # We are the only worker on this lease, so its create is not under way: the answer was lost, or we died.
        _adopt(world, lease)


def _buy(world: World, lease: Lease) -> None:
    provider = world.providers.get(lease.provider or "")
    if provider is None:
        _take_back(world, lease, f"credential {lease.provider} is gone from the configuration")
        return
    if provider.reserve_create():
        _purchase(world, lease, provider)
        return
    again = world.clock() + timedelta(seconds=max(0.05, provider.create_wait_seconds()))
    with world.engine.begin() as db:
        leases.amend(db, lease, None, world.clock(), not_before=again)


def _take_back(world: World, lease: Lease, why: str) -> None:
    with world.engine.begin() as db:
        purchases.take_back(db, leases.get(db, lease.id), why, world.clock())
    world.nudge()


def _purchase(world: World, lease: Lease, provider: Provider) -> None:
    private_key, public_key = new_host_key()
    label = label_for(world.site.cluster, lease.id, lease.epoch)
    with world.engine.begin() as db:
        purchasing.take_turn(db)
        now = world.clock()
        paused, target = purchasing.paused(db), breakers.target_of(world, lease)
        standing = blocks.view(db, now, world.site.image, lease.job_id)
        stop = standing.stop_at(target, lease.id)
        stopped = f"buying is paused: {paused}" if paused else stop.words if stop is not None else None
        if now >= lease.deadline:
            stopped = "Slurm's ResumeTimeout has passed"
        if stopped is None:
            blocks.claim(db, standing.to_try(target), lease.id, now)
            # The intent, before the effect: whatever happens to us from here on, the label finds the machine again.
            lease = leases.move(
                db,
                lease,
                LeaseState.LAUNCHING,
                f"buying {lease.instance_type} in {lease.zone} from {lease.provider} "
                f"at {lease.price_per_hour} {lease.currency}/h{_odds(world, offers.one(db, lease.offer_id or ''), now)}",
                now,
                label=label,
                host_key=public_key,
                not_before=None,
            )
    if stopped is not None:
        _take_back(world, lease, stopped)
        return
    log.info("lease_id=%s node=%s provider=%s offer=%s launching", lease.id, lease.node, lease.provider, lease.offer_id)
    spec = InstanceSpec(
        label=label,
        instance_type=lease.instance_type or "",
        zone=lease.zone or "",
        user_data=user_data(private_key),
        ssh_public_key=world.site.ssh_public_key,
        capacity_type=lease.capacity_type or CapacityType.ON_DEMAND,
        price_per_hour=lease.price_per_hour,
        disk_gib=world.site.shapes[lease.shape].disk_gib if lease.shape in world.site.shapes else None,
        machine=lease.machine,
    )
    sent_at = world.clock()
    try:
        instance = provider.create(spec)
    except OutcomeUnknown as exc:
        answer_lost(world, lease, exc)
    except ProviderError as exc:
        refused(world, lease, exc)
    else:
        bought(world, lease, instance, sent_at)


def _odds(world: World, offer: Offer | None, now: datetime) -> str:
    if offer is None:
        return ", which the last reading no longer lists"
    chance = world.forecast.chance(offer, now)
    return f", chance of success {chance.p:.0%} ({chance.reason()})"


def _observe(db: Connection, lease: Lease, at: datetime, *, accepted: bool) -> Offer | None:
    """What came of the purchase is an observation of its offer, the best there is. None: no reading has it any more."""
    offer = offers.one(db, lease.offer_id or "")
    if offer is not None:
        source = Source.CREATE_ACCEPTED if accepted else Source.CREATE_REFUSED
        observations.append(db, [Observation(offer=offer, available=accepted, at=at, source=source)])
    return offer


def answer_lost(world: World, lease: Lease, exc: OutcomeUnknown) -> None:
    """From now on the machine is looked for by its label, for as long as the provider may hide it."""
    reason = f"the answer to the purchase was lost ({exc}); looking for the machine by its label"
    for _ in range(5):
        now = world.clock()
        with contextlib.suppress(StaleLease), world.engine.begin() as db:
            # Also when the lease was given up meanwhile: its end must look as long.
            current = leases.get(db, lease.id)
            leases.amend(db, current, reason, now, state_since=now, not_before=now + _LOOK_AGAIN)
            return


def bought(
    world: World,
    lease: Lease,
    instance: Instance,
    sent_at: datetime,
    how: str = "bought",
    late: str = "bought too late",
) -> None:
    """Write the machine into the ledger, also when the lease was moved on meanwhile: then it is given back."""
    now = world.clock()
    for _ in range(5):
        with world.engine.begin() as db:
            current = leases.get(db, lease.id)
            try:
                if current.state is LeaseState.LAUNCHING:
                    leases.move(
                        db,
                        current,
                        LeaseState.BOOTSTRAPPING,
                        f"{how}: instance {instance.id}, waiting for it to boot",
                        now,
                        instance_id=instance.id,
                        not_before=None,
                    )
                else:
                    leases.amend(db, current, f"{late}: instance {instance.id}", now, instance_id=instance.id)
                breakers.purchased(world, db, lease, now)
            except StaleLease:
                continue
            if lease.price_per_hour is not None and lease.currency is not None:
                usage.record(
                    db,
                    UsageEvent(
                        lease_id=lease.id,
                        kind=UsageKind.START,
                        not_before=sent_at,
                        not_after=now,
                        price_per_hour=instance.price_per_hour or lease.price_per_hour,
                        currency=lease.currency,
                    ),
                )
            offer = _observe(db, lease, sent_at, accepted=True)
        if offer is not None:
            world.forecast.bought(offer, accepted=True)
        log.info("lease_id=%s node=%s instance=%s bought", lease.id, lease.node, instance.id)
        world.nudge()
        return


def _adopt(world: World, lease: Lease) -> None:
    provider = world.provider_of(lease)
    if provider is None:
        raise NotFound(f"lease {lease.id}: credential {lease.provider} is gone from the configuration; put it back")
    now = world.clock()
    found = next((i for i in provider.instances() if i.label == lease.label), None)
    if found is not None:
        log.info("lease_id=%s instance=%s adopted by label", lease.id, found.id)
        with reading(world.engine) as db:
            launched = leases.launched_at(db, lease)
        bought(world, lease, found, launched, "adopted by its label")
        return
    since = max(lease.state_since, world.started_at)
    if now - since < timedelta(seconds=2 * provider.visibility_lag_seconds):
        with world.engine.begin() as db:
            leases.amend(db, lease, None, now, not_before=now + _LOOK_AGAIN)
        return
    with world.engine.begin() as db:
        purchases.never_seen(db, lease, now)
        purchases.refused(db, lease, "the purchase never happened: no machine with its label", now)
        breakers.purchase_lost(world, db, lease, now)
    world.nudge()


def refused(world: World, lease: Lease, exc: ProviderError) -> None:
    """Nothing was bought: what failed is left alone for a while, and the next attempt begins."""
    now = world.clock()
    not_before = now + timedelta(seconds=exc.retry_after) if isinstance(exc, RateLimited) else None
    sold_out: Offer | None = None
    with world.engine.begin() as db:
        breakers.purchase_refused(world, db, lease, exc, now)
        if isinstance(exc, NoCapacity):
            sold_out = _observe(db, lease, now, accepted=False)
        current = leases.get(db, lease.id)
        reason = f"{refusals.WORDS.get(type(exc), 'refused')}: {exc}"
        if current.state is LeaseState.LAUNCHING:
            purchases.refused(db, current, reason, now, not_before)
        else:
            leases.amend(db, current, reason, now)  # given up meanwhile; its end looks for the label
    if sold_out is not None:
        world.forecast.bought(sold_out, accepted=False)
    log.info("lease_id=%s node=%s refused: %s", lease.id, lease.node, exc)
    world.nudge()
