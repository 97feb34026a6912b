"""requested → an offer allotted: the plan for each job's nodes and the limits. Nothing is bought here.

The nodes of a job with several are a group: they are allotted whole, in one credential and zone, or not at all. When a
place turns out to have too few machines, the group is dissolved: what it has bought is offered to the next jobs that
wait for the same shape, the rest is given back, and the whole group is planned anew elsewhere. Groups of a call are
served before its single nodes, which are easier to place.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from sqlalchemy import Connection

from broker.core.blocks import Blocks, target_of
from broker.core.demand import Job, Place, Request, Wishes
from broker.core.errors import BrokerError, StaleLease
from broker.core.leases import HOLDS_NODE, Lease, LeaseState
from broker.core.offers import Offer
from broker.db import blocks, boots, leases, offers, payers, purchasing, steps
from broker.db.engine import reading
from broker.placement.chances import Model
from broker.placement.planner import SOLD_OUT, Plan, plan
from broker.reconcile import refusals
from broker.reconcile.driver import Task
from broker.reconcile.join import HOME_STEP
from broker.reconcile.world import World
from broker.services import purchases
from broker.slurm import hostlist
from broker.slurm.wishes import parse_wishes

log = logging.getLogger("broker.allot")

_LOOK_AGAIN = timedelta(seconds=1)
# Slurm may wake a group's nodes in several calls, and single nodes wait so long for the groups of their call. Longer is
# added to such jobs' starts; shorter buys half of a group before the other half is known.
_GATHER = timedelta(seconds=2)
# How long a lease that a limit or a pause stops waits for that to pass, before its job is told to come back later.
_PATIENCE = timedelta(seconds=60)
_LAST_MOMENT = timedelta(seconds=30)
# One credential's list is seconds older than another's: at one price, chances that differ no more than that are equal.
_AS_GOOD = 1.01
_OVER = frozenset({"CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"})


@dataclass(frozen=True, kw_only=True)
class Party:
    """The leases that are allotted together: those of one job, or one whose job is not known."""

    job: Job | None
    waiting: tuple[Lease, ...]
    standing: tuple[Lease, ...]
    """Leases of the job's other nodes, allotted or bought already."""
    tried: tuple[Lease, ...]
    """Attempts behind the same calls that have ended."""
    size: int
    """How many of our nodes the job has."""
    complete: bool
    """Each of them has its lease."""

    @property
    def is_group(self) -> bool:
        return self.size > 1

    @property
    def place(self) -> Place | None:
        """Where most of its machines stand."""
        stands = Counter((lease.provider, lease.zone) for lease in self.standing if lease.provider and lease.zone)
        if not stands:
            return None
        (provider, zone), _ = min(stands.items(), key=lambda entry: (-entry[1], entry[0]))
        return Place(provider=str(provider), zone=str(zone))


@dataclass(frozen=True, kw_only=True)
class _End:
    """Nothing is bought for the party's nodes; Slurm may try its job again at `again`. `whole`: its machines go, too."""

    party: Party
    reason: str
    again: datetime
    whole: bool


@dataclass
class _Pass:
    """What one pass looks at; read once, whatever the number of leases."""

    world: World
    now: datetime
    paused: str | None
    on_sale: list[Offer]
    blocks: Blocks
    boot_p95: Mapping[tuple[str, str], timedelta]
    model: Model
    queued: Counter[str]
    """Credential → creates allotted and not sent yet."""
    surplus: list[Lease]
    """Machines of dissolved groups that nobody has taken over yet."""
    plans: dict[object, Plan]
    waits: list[tuple[Party, str | None, datetime]]
    """Who looks again when, and why: written together at the end of the pass."""
    ends: list[_End]
    """Who is given up: written together, too."""
    changed: bool = False
    """Something for the other activities to look at."""

    def chance(self, offer: Offer) -> float:
        return self.model.p(offer, self.now)

    def plan(self, party: Party, place: Place | None) -> Plan:
        lease = party.waiting[0]
        left = min(each.deadline for each in party.waiting) - self.now
        late = {what for what, took in self.boot_p95.items() if took > left}
        slow = frozenset(
            offer.id for offer in (self.on_sale if late else ()) if (offer.provider, offer.instance_type) in late
        )
        request = Request(
            shape=self.world.site.shapes[lease.shape],
            wishes=_wishes(party.job),
            cpu_arch=self.world.site.cpu_arch,
            # Whose machine failed; what was refused is for the blocks to say.
            excluded_offers=frozenset(past.offer_id for past in party.tried if past.offer_id and past.instance_id),
            too_slow=slow,
            needed_until=self._needed_until(party, left),
            place=place,
        )
        # A burst of like jobs is planned once.
        wished = party.job.comment if party.job is not None else ""
        trying = party.job.id if party.job is not None and party.job.id in self.blocks.trying_jobs else None
        key = (lease.shape, wished, request.excluded_offers, slow, request.needed_until, place, trying)
        if key not in self.plans:
            self.plans[key] = plan(
                request,
                self.on_sale,
                self.world.site.limits,
                self.world.site.trusted,
                self.blocks.of_job(trying),
                self.chance,
            )
        return self.plans[key]

    def _needed_until(self, party: Party, left: timedelta) -> datetime | None:
        """As late as the job may end: it starts before Slurm's patience ends. To the minute, as bursts share plans."""
        if party.job is None or party.job.time_limit is None:
            return None
        boot = timedelta(minutes=-(-max(timedelta(0), left) // timedelta(minutes=1)))
        return self.now + boot + party.job.time_limit


def find(world: World) -> Iterable[Task]:
    """One task while any lease waits for its offer."""
    now = world.clock()
    with reading(world.engine) as db:
        waiting = leases.due(db, [LeaseState.REQUESTED], now, allotted=False)
    if waiting:
        yield Task(key="allot", run=partial(allot, world))


def allot(world: World) -> None:
    """Give every waiting lease that can have one its offer; end those for which there is nothing."""
    now = world.clock()
    with reading(world.engine) as db:
        held = leases.in_states(db, HOLDS_NODE)
        look = _Pass(
            world=world,
            now=now,
            paused=purchasing.paused(db),
            on_sale=offers.current(db),
            blocks=blocks.view(db, now, world.site.image),
            boot_p95={what: took.p95 for what, took in boots.times(db).items()},
            model=world.forecast.model,
            queued=Counter(
                lease.provider for lease in held if lease.state is LeaseState.REQUESTED and lease.provider is not None
            ),
            surplus=[],
            plans={},
            waits=[],
            ends=[],
        )
        waiting = [lease for lease in held if lease.state is LeaseState.REQUESTED and lease.offer_id is None]
        tried = leases.of_requests(db, {lease.request_id for lease in waiting})
    jobs = _jobs_of(world, waiting)
    parties = _parties(waiting, held, tried, jobs, frozenset(world.site.addresses))
    busy = _calls_with_groups(held)
    chosen: list[tuple[Party, Offer]] = []
    for party in sorted(parties, key=lambda party: not party.is_group):
        if any(lease.not_before is not None and lease.not_before > now for lease in party.waiting):
            continue
        try:
            offer = _decide(look, party, busy)
        except StaleLease:
            continue  # it was given up meanwhile
        if offer is not None:
            chosen.append((party, offer))
            look.queued[offer.provider] += len(party.waiting)
    if chosen:
        _write(look, chosen)
    _give_back(look)
    _write_waits(look)
    _write_ends(look)
    if look.changed:
        world.nudge()


def _decide(look: _Pass, party: Party, busy: set[str]) -> Offer | None:
    """The offer for every waiting lease of the party; None: something else was done, or it waits."""
    now, newest = look.now, max(lease.created_at for lease in party.waiting)
    if party.job is not None and party.job.state in _OVER:
        _end(look, party, "its job ended before a machine was bought", now)
        return None
    if min(lease.deadline for lease in party.waiting) - now < _LAST_MOMENT:
        why = party.waiting[0].reason or "nothing could be bought"
        _end(look, party, f"Slurm's ResumeTimeout is near: {why}", _later(look, party))
        return None
    if party.is_group and not party.complete and now - newest < _GATHER:
        return None
    if look.paused is not None:
        _stopped(look, party, f"buying is paused: {look.paused}")
        return None
    if not look.on_sale and not look.blocks.closed_credentials():
        _wait(look, party, "no provider has told its offers yet", now + _LOOK_AGAIN)
        return None
    if _take_over(look, party):
        return None
    if not party.is_group and party.waiting[0].request_id in busy and now - newest < _GATHER:
        return None
    return _choose(look, party)


def _choose(look: _Pass, party: Party) -> Offer | None:
    place = party.place if party.is_group else None
    ranked = look.plan(party, place)
    if not ranked.offers:
        if soon := _blocked_for_a_moment(ranked, look.now, min(x.deadline for x in party.waiting)):
            _wait(look, party, *soon)
        elif place is not None:
            _no_room(look, party, place)
        else:
            grouped = "; ".join(f"{count} × {reason}" for reason, count in ranked.reasons()[:4]) or "no offers at all"
            several = f"{len(party.waiting)} × " if party.is_group else ""
            reason = f"nothing to buy for {several}{party.waiting[0].shape}: {grouped}"
            _end(look, party, reason, _later(look, party, ranked))
        return None
    offer, wait_seconds = _soonest_of_the_cheapest(look, ranked)
    if wait_seconds > 1.0 and not party.is_group:
        # Not free yet: when it is, another offer may be the better one.
        _wait(look, party, None, look.now + timedelta(seconds=wait_seconds))
        return None
    return offer


def _no_room(look: _Pass, party: Party, place: Place) -> None:
    """The rest of a group cannot be had where its first machines stand."""
    if any(lease.state is LeaseState.LAUNCHING for lease in party.standing):
        _wait(look, party, f"{place.zone} of {place.provider} has no machine left; purchases under way end first",
              look.now + _LOOK_AGAIN)  # fmt: skip
        return
    if any(lease.state is LeaseState.READY for lease in party.standing):
        if party.job is not None and not party.job.batch:
            # srun and salloc would die of it: rather over the internet than not at all.
            _elsewhere(look, party, place)
            return
        reason = f"{place.zone} of {place.provider} has too few machines for {party.size} nodes"
        _end(look, party, reason, look.now, whole=True)
        return
    _dissolve(look, party, place)


def _elsewhere(look: _Pass, party: Party, place: Place) -> None:
    ranked = look.plan(party, None)
    if not ranked.offers:
        _end(look, party, f"nothing to buy for the rest of the job, {place.zone} included", _later(look, party))
        return
    offer, _ = _soonest_of_the_cheapest(look, ranked)
    _write(look, [(party, offer)])


def _dissolve(look: _Pass, party: Party, place: Place) -> None:
    """Allotted offers are taken back; machines not joined yet become surplus, and their nodes wait anew."""
    reason = f"{place.zone} of {place.provider} has too few machines for the whole job"
    look.changed = True
    with look.world.engine.begin() as db:
        for lease in party.standing:
            current = leases.get(db, lease.id)
            if current.state is LeaseState.REQUESTED:
                purchases.take_back(db, current, reason, look.now)
            elif current.state is LeaseState.BOOTSTRAPPING:
                look.surplus.append(current)
    log.info("job=%s %s: planned anew as a whole", party.job.id if party.job else None, reason)


def _take_over(look: _Pass, party: Party) -> bool:
    """Machines that a dissolved group bought and that fit go to this job, if they are enough for all of it."""
    if party.standing or not look.surplus:
        return False
    fitting = [lease for lease in look.surplus if _fits(look, party, lease)]
    places = Counter((lease.provider, lease.zone) for lease in fitting)
    for where, count in places.items():
        if count < len(party.waiting):
            continue
        there = [lease for lease in fitting if (lease.provider, lease.zone) == where][: len(party.waiting)]
        with look.world.engine.begin() as db:
            for machine, wanted in zip(there, party.waiting, strict=True):
                ours, theirs = leases.get(db, machine.id), leases.get(db, wanted.id)
                gone = ours.state is not LeaseState.BOOTSTRAPPING or theirs.state is not LeaseState.REQUESTED
                if gone or HOME_STEP in steps.of_lease(db, machine.id):
                    raise StaleLease(machine.id)  # given up, or further on meanwhile: all of it is looked at anew
                purchases.take_over(db, ours, theirs, look.now)
                if party.job is not None:
                    payers.record(db, machine.id, party.job.id, party.job.user, party.job.account)
                steps.forget_after(db, machine.id, steps.BEFORE_NODE)
        look.changed = True
        for machine in there:
            look.surplus.remove(machine)
        return True
    return False


def _fits(look: _Pass, party: Party, machine: Lease) -> bool:
    if machine.shape != party.waiting[0].shape or machine.job_id == party.waiting[0].job_id:
        return False
    with reading(look.world.engine) as db:
        if HOME_STEP in steps.of_lease(db, machine.id):
            return False  # it may hold a home, and its slurmd soon answers under the old name
    ours = [replace(offer, available=True) for offer in look.on_sale if offer.id == machine.offer_id]
    request = Request(
        shape=look.world.site.shapes[machine.shape], wishes=_wishes(party.job), cpu_arch=look.world.site.cpu_arch
    )
    return bool(plan(request, ours, look.world.site.limits, look.world.site.trusted).offers)


def _give_back(look: _Pass) -> None:
    """Surplus that nobody takes is given back; its node waits for the next place of its group."""
    for machine in look.surplus:
        with look.world.engine.begin() as db:
            current = leases.get(db, machine.id)
            if current.state is LeaseState.BOOTSTRAPPING:
                purchases.abandon(db, current, "its place had too few machines for the whole job", look.now)


def _write(look: _Pass, chosen: Sequence[tuple[Party, Offer]]) -> None:
    """Write the offers down, if limits and pause allow: in one transaction, so that no two can pass the same limit."""
    over: list[tuple[Party, str]] = []
    limits = look.world.site.limits
    with look.world.engine.begin() as db:
        purchasing.take_turn(db)
        paused = purchasing.paused(db)
        standing = blocks.current(db)
        bought = [lease for lease in leases.living(db) if lease.offer_id is not None]
        count, rate = len(bought), sum((lease.price_per_hour or Decimal(0) for lease in bought), Decimal(0))
        for party, offer in chosen:
            current = [leases.get(db, lease.id) for lease in party.waiting]
            if any(lease.state is not LeaseState.REQUESTED or lease.offer_id is not None for lease in current):
                continue  # given up or served meanwhile; what is left of the party is planned anew
            job_id = party.job.id if party.job is not None else current[0].job_id
            target = target_of(offer, look.world.site.image)
            seen = Blocks(standing, look.now, look.world.site.image, job_id)
            if (stop := seen.stop_at(target)) is not None:
                _wait(look, party, stop.words, stop.until if stop.soon and stop.until else look.now + _LOOK_AGAIN)
                continue
            more, cost = count + len(current), rate + offer.price_per_hour * len(current)
            why = f"buying is paused: {paused}" if paused else refusals.over_limit(limits, more, cost)
            if why is not None:
                over.append((party, why))
                continue
            count, rate = more, cost
            for lease in current:
                said = (
                    f"{offer.instance_type} in {offer.zone} from {offer.provider} chosen for {len(current)} of {party.size} nodes"
                    if party.is_group
                    else None
                )
                _allotted(db, lease, offer, party.job, said, look.now)
                look.changed = True
            if tried := seen.to_try(target):
                # Half open: one attempt, and nobody else's until it is decided.
                blocks.claim(db, tried, current[0].id, look.now)
                standing = blocks.current(db)
    for party, why in over:
        _stopped(look, party, why)


def _allotted(db: Connection, lease: Lease, offer: Offer, job: Job | None, said: str | None, now: datetime) -> None:
    if job is not None and job.id != lease.job_id:
        lease = leases.amend(db, lease, f"it is job {job.id} that waits for the node", now, job_id=job.id)
    if job is not None:
        payers.record(db, lease.id, job.id, job.user, job.account)
    leases.amend(
        db,
        lease,
        said,
        now,
        provider=offer.provider,
        offer_id=offer.id,
        instance_type=offer.instance_type,
        zone=offer.zone,
        capacity_type=offer.capacity_type,
        machine=offer.machine,
        price_per_hour=offer.price_per_hour,
        currency=offer.currency,
        not_before=None,
    )


def _stopped(look: _Pass, party: Party, reason: str) -> None:
    """A limit or a pause: it may pass in a moment; if it does not, the job comes back later."""
    most = look.world.site.limits.max_nodes
    if most is not None and party.size > most:
        _end(look, party, f"{party.size} nodes {refusals.NEVER}: [limits] max_nodes = {most}", look.now)
    elif look.now - min(lease.created_at for lease in party.waiting) > _PATIENCE:
        _end(look, party, reason, _later(look, party))
    else:
        _wait(look, party, reason, look.now + _LOOK_AGAIN)


def _wait(look: _Pass, party: Party, reason: str | None, until: datetime) -> None:
    """Look again at `until`; `reason` None: nothing that anybody need know."""
    look.waits.append((party, reason, until))


def _write_waits(look: _Pass) -> None:
    """In one transaction: a thousand leases may wait for one credential's turn. Each reason is said once, not at every look."""
    told: dict[int, tuple[Job, str]] = {}
    if not look.waits:
        return
    with look.world.engine.begin() as db:
        for party, reason, until in look.waits:
            for waiting in party.waiting:
                lease = leases.get(db, waiting.id)
                if lease.state is not LeaseState.REQUESTED or lease.offer_id is not None:
                    continue  # given up meanwhile
                new = reason is not None and lease.reason != reason
                changes = {} if reason is None else {"reason": reason}
                leases.amend(db, lease, reason if new else None, look.now, not_before=until, **changes)
                if new and party.job is not None:
                    told[party.job.id] = (party.job, f"broker: {reason}")
    for job, text in told.values():
        _tell(look.world, job, text)


def _tell(world: World, job: Job, text: str) -> None:
    try:
        world.slurm.set_admin_comment(job.id, text)
    except BrokerError as exc:  # only a courtesy; `broker why` says it, too
        log.info("job=%s could not be told: %s", job.id, exc)


def _end(look: _Pass, party: Party, reason: str, again: datetime, *, whole: bool = False) -> None:
    """Nothing is bought for these nodes: `hand_back` gives them up and has Slurm try the job again at `again`.

    `whole`: the machines of the job's other nodes go, too.
    """
    look.ends.append(_End(party=party, reason=reason, again=again, whole=whole))


def _write_ends(look: _Pass) -> None:
    """In one transaction, and a line of the log for each reason: a sell-out may end a thousand."""
    if not look.ends:
        return
    said: dict[str, list[str]] = {}
    with look.world.engine.begin() as db:
        for end in look.ends:
            for waiting in end.party.waiting:
                lease = leases.get(db, waiting.id)
                if lease.state is not LeaseState.REQUESTED or lease.offer_id is not None:
                    continue  # given up meanwhile
                leases.move(db, lease, LeaseState.RELEASED, end.reason, look.now, not_before=end.again)
                said.setdefault(end.reason, []).append(lease.node)
            for lease in end.party.standing if end.whole else ():
                purchases.give_up(db, leases.get(db, lease.id), end.reason, look.now)
    look.changed = True
    for end in look.ends:
        if end.whole:
            look.world.slurm.power_down_force([lease.node for lease in end.party.standing], f"broker: {end.reason}")
    for reason, nodes in said.items():
        log.warning("nodes=%s %s", hostlist.fold(nodes), reason)


def _later(look: _Pass, party: Party, ranked: Plan | None = None) -> datetime:
    """When Slurm shall try again: never before the first block falls, where only blocks stand against what is on sale."""
    with reading(look.world.engine) as db:
        rounds = refusals.rounds(leases.of_job(db, party.job.id)) if party.job is not None else 0
    again = look.now + refusals.back_off(rounds + 1)
    rejections = ranked.rejections if ranked is not None else ()
    ends = [each.stop.until for each in rejections if each.stop is not None and each.stop.until is not None]
    if not ends or any(each.reason == SOLD_OUT for each in rejections):
        return again
    return max(again, min(*ends, look.now + refusals.LAST_BACK_OFF))


def _soonest_of_the_cheapest(look: _Pass, ranked: Plan) -> tuple[Offer, float]:
    """Of equally good offers the one whose credential may launch first, and how many seconds that is away."""
    best, price = ranked.scores[0] * _AS_GOOD, ranked.offers[0].price_per_hour
    cheapest = [
        offer
        for offer, points in zip(ranked.offers, ranked.scores, strict=True)
        if offer.price_per_hour == price and points <= best
    ]
    waits = [
        (look.world.providers[offer.provider].create_wait_seconds(look.queued[offer.provider]), offer.id, offer)
        for offer in cheapest
    ]
    wait_seconds, _, offer = min(waits, key=lambda entry: entry[:2])
    return offer, wait_seconds


def _blocked_for_a_moment(ranked: Plan, now: datetime, deadline: datetime) -> tuple[str, datetime] | None:
    """What is worth waiting for, and until when: a provider that did not answer, an attempt that is answered soon."""
    waits = [
        (rejection.stop.until or now + _LOOK_AGAIN, rejection.reason)
        for rejection in ranked.rejections
        if rejection.stop is not None and rejection.stop.soon and rejection.offer.available
    ]
    until, reason = min(waits, default=(deadline, ""))
    return (reason, until) if until < deadline - _LAST_MOMENT else None


def _jobs_of(world: World, waiting: Iterable[Lease]) -> dict[str, Job]:
    """Node → the job that waits for it."""
    ids = {lease.job_id for lease in waiting}
    # Slurm's resume file could not be read: the job that waits for the node is the one that woke it.
    known = world.slurm.jobs(None if None in ids else [job_id for job_id in ids if job_id is not None])
    if len(ids) == 1 and any(job.state in _OVER for job in known):
        known = world.slurm.jobs()  # another may have taken its node over
    by_id = {job.id: job for job in known}
    by_node: dict[str, Job] = {}
    for job in sorted(known, key=lambda job: -job.id):
        if job.state == "CONFIGURING":
            by_node.update(dict.fromkeys(job.nodes, job))
    found = {}
    for lease in waiting:
        asked = by_id.get(lease.job_id) if lease.job_id is not None else None
        if asked is None or asked.state in _OVER:
            asked = by_node.get(lease.node, asked)
        if asked is not None:
            found[lease.node] = asked
    return found


def _parties(
    waiting: Sequence[Lease],
    held: Sequence[Lease],
    tried: Sequence[Lease],
    jobs: Mapping[str, Job],
    ours: frozenset[str],
) -> list[Party]:
    """Part the waiting leases by job, oldest first."""
    by_node = {lease.node: lease for lease in held}
    parted: dict[object, list[Lease]] = {}
    for lease in waiting:
        job = jobs.get(lease.node)
        of_job = job is not None and lease.node in job.nodes
        parted.setdefault(job.id if job is not None and of_job else lease.node, []).append(lease)
    return [_party(together, by_node, tried, jobs.get(together[0].node), ours) for together in parted.values()]


def _calls_with_groups(held: Iterable[Lease]) -> set[str]:
    """Calls of ResumeProgram in which a job of several nodes is not bought yet."""
    size = Counter(lease.job_id for lease in held if lease.job_id is not None)
    buying = {LeaseState.REQUESTED, LeaseState.LAUNCHING}
    return {x.request_id for x in held if x.state in buying and x.job_id is not None and size[x.job_id] > 1}


def _party(
    together: Sequence[Lease],
    by_node: Mapping[str, Lease],
    tried: Sequence[Lease],
    job: Job | None,
    ours: frozenset[str],
) -> Party:
    names, requests = {lease.node for lease in together}, {lease.request_id for lease in together}
    nodes = [node for node in job.nodes if node in ours] if job is not None and names <= {*job.nodes} else []
    standing = [by_node[node] for node in nodes if node in by_node and node not in names]
    return Party(
        job=job,
        waiting=tuple(together),
        standing=tuple(lease for lease in standing if lease.state is not LeaseState.DRAINING),
        tried=tuple(
            past
            for past in tried
            if past.request_id in requests and (past.node in names or (job is not None and past.job_id == job.id))
        ),
        size=max(len(nodes), len(together)),
        complete=all(node in by_node for node in nodes),
    )


def _wishes(job: Job | None) -> Wishes:
    if job is None:
        return Wishes()
    try:
        return parse_wishes(job.comment)
    except BrokerError as exc:
        # job_submit refuses these; one that came past it (the plugin was off) is bought for as if it wished nothing.
        log.warning("job=%s wishes not understood, ignored: %s", job.id, exc)
        return Wishes()
