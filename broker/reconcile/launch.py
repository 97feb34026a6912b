"""requested → launching → bootstrapping: the plan, the limits, the intent, the create. And adoption after a lost answer."""

import contextlib
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from sqlalchemy import Connection

from broker.core.demand import Job, Limits, Request, Wishes
from broker.core.errors import (
    BrokerError,
    CredentialsRefused,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
    StaleLease,
)
from broker.core.leases import Lease, LeaseState, label_for
from broker.core.offers import Instance, InstanceSpec, Offer
from broker.core.usage import UsageEvent, UsageKind
from broker.db import leases, offers, purchasing, usage
from broker.db.engine import reading
from broker.placement.planner import SUSPENDED, Plan, plan
from broker.providers.base import Provider
from broker.provisioning.keys import new_host_key, user_data
from broker.reconcile.driver import Task
from broker.reconcile.world import World
from broker.services import purchases
from broker.slurm.wishes import parse_wishes

log = logging.getLogger("broker.launch")

# How long a credential is left alone: too short hammers a provider that said no; too long leaves capacity unused.
_QUOTA_PAUSE = timedelta(hours=1)
_REFUSED_PAUSE = timedelta(minutes=10)
_LIMIT_PAUSE = timedelta(seconds=3)
_LOOK_AGAIN = timedelta(seconds=2)
# DESIGN 3, "when nothing can be bought": Slurm tries the job again after this, doubling.
_FIRST_BACKOFF = timedelta(seconds=60)
_LAST_BACKOFF = timedelta(minutes=30)
_ROUNDS = 6


def find(world: World) -> Iterable[Task]:
    """A task for each lease that waits for its purchase."""
    now = world.clock()
    with reading(world.engine) as db:
        waiting = leases.in_states(db, [LeaseState.REQUESTED, LeaseState.LAUNCHING])
    for lease in waiting:
        if lease.not_before is None or lease.not_before <= now:
            yield Task(key=f"lease:{lease.id}", run=partial(launch, world, lease.id))


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
    now = world.clock()
    if lease.deadline <= now:
        with world.engine.begin() as db:
            leases.move(
                db,
                lease,
                LeaseState.RELEASED,
                "Slurm's ResumeTimeout passed before anything was bought",
                now,
                not_before=None,
            )
        return
    job = _job_of(world, lease)
    if job is not None and lease.job_id is None:
        with world.engine.begin() as db:
            lease = leases.amend(db, lease, f"it is job {job.id} that waits for the node", now, job_id=job.id)
    with reading(world.engine) as db:
        paused = purchasing.paused(db)
        on_sale = offers.current(db)
        suspended = purchasing.suspended(db, now)
        suspended_until = purchasing.suspended_until(db, now)
        tried = leases.of_request(db, lease.request_id, lease.node)
    if paused is not None:
        _wait(world, lease, f"buying is paused: {paused}", now + _LIMIT_PAUSE)
        return
    if not on_sale and not suspended:
        _wait(world, lease, "no provider has told its offers yet", now + _LOOK_AGAIN)
        return
    ranked = plan(
        Request(
            shape=world.site.shapes[lease.shape],
            wishes=_wishes(job),
            deadline=lease.deadline,
            cpu_arch=world.site.cpu_arch,
            excluded_offers=frozenset(past.offer_id for past in tried if past.offer_id and not _only_busy(past)),
        ),
        on_sale,
        world.site.limits,
        world.site.trusted,
        frozenset(suspended),
    )
    if not ranked.offers and (soon := _suspended_for_a_moment(ranked, suspended_until, lease.deadline)):
        _wait(world, lease, "the credentials that have an offer are left alone for a moment", soon)
        return
    if not ranked.offers:
        _nothing_left(world, lease, ranked, now)
        return
    offer, wait_seconds = _soonest_of_the_cheapest(world, ranked)
    provider = world.providers[offer.provider]
    if wait_seconds > 0 or not provider.reserve_create():
        # Not free, or another lease was quicker: look again when it may be.
        _wait(world, lease, None, now + timedelta(seconds=wait_seconds))
        return
    _purchase(world, lease, offer, provider)


def _purchase(world: World, lease: Lease, offer: Offer, provider: Provider) -> None:
    now = world.clock()
    private_key, public_key = new_host_key()
    label = label_for(world.site.cluster, lease.id, lease.epoch)
    with world.engine.begin() as db:
        purchasing.take_turn(db)
        paused = purchasing.paused(db)
        over = f"buying is paused: {paused}" if paused else _over_limit(db, offer, world.site.limits)
        if over is None:
            # The intent, before the effect: whatever happens to us from here on, the label finds the machine again.
            lease = leases.move(
                db,
                lease,
                LeaseState.LAUNCHING,
                f"buying {offer.instance_type} in {offer.zone} from {offer.provider} "
                f"at {offer.price_per_hour} {offer.currency}/h",
                now,
                provider=offer.provider,
                offer_id=offer.id,
                instance_type=offer.instance_type,
                zone=offer.zone,
                price_per_hour=offer.price_per_hour,
                currency=offer.currency,
                label=label,
                host_key=public_key,
                not_before=None,
            )
    if over is not None:
        _wait(world, lease, over, now + _LIMIT_PAUSE)
        return
    log.info("lease_id=%s node=%s provider=%s offer=%s launching", lease.id, lease.node, offer.provider, offer.id)
    spec = InstanceSpec(
        label=label,
        instance_type=offer.instance_type,
        zone=offer.zone,
        user_data=user_data(private_key),
        ssh_public_key=world.site.ssh_public_key,
    )
    sent_at = world.clock()
    try:
        instance = provider.create(spec)
    except OutcomeUnknown as exc:
        _lost(world, lease, exc)
    except ProviderError as exc:
        _refused(world, lease, offer, exc)
    else:
        _bought(world, lease, instance, sent_at)


def _lost(world: World, lease: Lease, exc: OutcomeUnknown) -> None:
    """From now on the machine is looked for by its label, for as long as the provider may hide it."""
    reason = f"the answer to the purchase was lost ({exc}); looking for the machine by its label"
    for _ in range(5):
        now = world.clock()
        with contextlib.suppress(StaleLease), world.engine.begin() as db:
            # Also when the lease was given up meanwhile: its end must look as long.
            current = leases.get(db, lease.id)
            leases.amend(db, current, reason, now, state_since=now, not_before=now + _LOOK_AGAIN)
            return


def _bought(world: World, lease: Lease, instance: Instance, sent_at: datetime) -> None:
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
                        f"bought: instance {instance.id}, waiting for it to boot",
                        now,
                        instance_id=instance.id,
                        not_before=None,
                    )
                else:
                    leases.amend(db, current, f"bought too late: instance {instance.id}", now, instance_id=instance.id)
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
        _bought(world, lease, found, lease.state_since)
        return
    since = max(lease.state_since, world.started_at)
    if now - since < timedelta(seconds=2 * provider.visibility_lag_seconds):
        with world.engine.begin() as db:
            leases.amend(db, lease, None, now, not_before=now + _LOOK_AGAIN)
        return
    with world.engine.begin() as db:
        purchases.refused(db, lease, "the purchase never happened: no machine with its label", now)
    world.nudge()


def _refused(world: World, lease: Lease, offer: Offer, exc: ProviderError) -> None:
    now = world.clock()
    not_before = now + timedelta(seconds=exc.retry_after) if isinstance(exc, RateLimited) else None
    with world.engine.begin() as db:
        match exc:
            case NoCapacity():
                offers.mark_sold_out(db, offer.id)
            case QuotaExceeded():
                purchasing.suspend(db, offer.provider, now + _QUOTA_PAUSE, f"quota is full: {exc}")
            case CredentialsRefused():
                purchasing.suspend(db, offer.provider, now + _REFUSED_PAUSE, f"credential refused: {exc}")
                log.error("provider=%s refuses our credential: %s", offer.provider, exc)
            case ProviderUnavailable():
                purchasing.suspend(db, offer.provider, now + _LIMIT_PAUSE, f"unreachable: {exc}")
        purchases.refused(db, lease, f"{_WORDS.get(type(exc), 'refused')}: {exc}", now, not_before)
    log.info("lease_id=%s node=%s refused: %s", lease.id, lease.node, exc)
    world.nudge()


_WORDS: dict[type[BrokerError], str] = {
    NoCapacity: "sold out",
    QuotaExceeded: "the credential's quota is full",
    CredentialsRefused: "the provider refuses the credential",
    ProviderUnavailable: "the provider cannot be reached",
    RateLimited: "too many calls on the credential",
}


def _nothing_left(world: World, lease: Lease, ranked: Plan, now: datetime) -> None:
    """Nothing fits: `hand_back` gives the node up and has Slurm try the job again later."""
    grouped = "; ".join(f"{count} × {reason}" for reason, count in ranked.reasons()[:4]) or "no offers at all"
    reason = f"nothing to buy for {lease.shape}: {grouped}"
    with world.engine.begin() as db:
        rounds = len({past.request_id for past in leases.of_job(db, lease.job_id)}) if lease.job_id else 1
        again = now + min(_FIRST_BACKOFF * 2 ** (min(rounds, _ROUNDS) - 1), _LAST_BACKOFF)
        leases.move(db, lease, LeaseState.RELEASED, reason, now, not_before=again)
    log.warning("lease_id=%s node=%s %s", lease.id, lease.node, reason)
    world.nudge()


def _soonest_of_the_cheapest(world: World, ranked: Plan) -> tuple[Offer, float]:
    """Of equally cheap offers the one whose credential may launch first, and how many seconds that is away."""
    cheapest = [offer for offer in ranked.offers if offer.price_per_hour == ranked.offers[0].price_per_hour]
    waits = [(world.providers[offer.provider].create_wait_seconds(), offer.id, offer) for offer in cheapest]
    wait_seconds, _, offer = min(waits, key=lambda entry: entry[:2])
    return offer, wait_seconds


def _only_busy(past: Lease) -> bool:
    """The attempt ended because we asked too often or nobody answered: its offer is as good as before."""
    return (past.reason or "").startswith((_WORDS[RateLimited], _WORDS[ProviderUnavailable]))


def _suspended_for_a_moment(
    ranked: Plan, suspended_until: Mapping[str, datetime], deadline: datetime
) -> datetime | None:
    """When the first credential that has a fitting offer is used again, if that is in time."""
    ends = [
        suspended_until[rejection.offer.provider]
        for rejection in ranked.rejections
        if rejection.reason == SUSPENDED and rejection.offer.provider in suspended_until and rejection.offer.available
    ]
    return min((end for end in ends if end < deadline), default=None)


def _over_limit(db: Connection, offer: Offer, limits: Limits) -> str | None:
    bought = [lease for lease in leases.living(db) if lease.label is not None]
    if limits.max_nodes is not None and len(bought) + 1 > limits.max_nodes:
        return f"[limits] max_nodes = {limits.max_nodes} is reached"
    if limits.max_usd_per_hour is not None:
        rate = sum((lease.price_per_hour or Decimal(0) for lease in bought), offer.price_per_hour)
        if rate > limits.max_usd_per_hour:
            return f"[limits] max_usd_per_hour = {limits.max_usd_per_hour} would be passed ({rate})"
    return None


def _wait(world: World, lease: Lease, reason: str | None, until: datetime) -> None:
    """Look again at `until`; say why once, not at every look."""
    said = None if reason is None or lease.reason == reason else reason
    with world.engine.begin() as db:
        changes = {} if reason is None else {"reason": reason}
        leases.amend(db, lease, said, world.clock(), not_before=until, **changes)


def _job_of(world: World, lease: Lease) -> Job | None:
    if lease.job_id is not None:
        return next(iter(world.slurm.jobs([lease.job_id])), None)
    # Slurm's resume file could not be read: the job that waits for the node is the one that woke it.
    waiting = (job for job in world.slurm.jobs() if job.state == "CONFIGURING" and lease.node in job.nodes)
    return min(waiting, key=lambda job: job.id, default=None)


def _wishes(job: Job | None) -> Wishes:
    if job is None:
        return Wishes()
    try:
        return parse_wishes(job.comment)
    except BrokerError as exc:
        # job_submit refuses these; one that came past it (the plugin was off) is bought for as if it wished nothing.
        log.warning("job=%s wishes not understood, ignored: %s", job.id, exc)
        return Wishes()
