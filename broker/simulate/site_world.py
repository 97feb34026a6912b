"""World `site`: several providers and regions with billing steps, boots that take time or fail, sell-outs, interruptions.

Event driven. Hours count from the trace's beginning. A job is planned when it arrives, at every new hour while it waits
(the signals are hourly: nothing is new between), and again when a purchase fails or it is interrupted.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

from broker.core.offers import CapacityType
from broker.placement.estimate import Checkpoint, Option, Work
from broker.placement.objective import Kept
from broker.placement.outlook import integral
from broker.simulate.deciders import Decider, Decision, Listed
from broker.simulate.outcome import Outcome, Result, spread
from broker.simulate.signals import Signals, View
from broker.simulate.site_file import Site, SiteOffer
from broker.simulate.trace import Trace, TraceJob, Unreadable

RETRY_H = 0.25
"""After everything that fits is sold out: the planner looks again."""
SHORT_H = 2.0
"""Jobs below wait at most the first, others at most the second limit of `--wait`, as in world `gaia`."""
_NOW_H = 1e-9
_Z90 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the jobs of a replay ask for. `slack`: deadline = submission + (1 + slack) x time limit; None: no deadline.

    A job without a time limit in the trace has `limit_over` times its length as one.
    """

    wait_hours: tuple[float, float]
    slack: float | None = None
    limit_over: float = 1.5
    lengths_known: bool = True
    """Else a policy knows of a job's length what its queue's median and 90th percentile say, and the time limit."""


@dataclass(slots=True)
class _Job:
    work: Work
    """As it truly is; `guess` is what a policy is told."""
    guess: tuple[float, float] | None
    """Median and 90th percentile of its queue's lengths; None: the length is known."""
    submitted_h: float
    left_h: float
    """What of the run is still to do."""
    deadline_h: float | None
    latest_h: float
    """Last start that its wait allows, in hours of the replay."""
    plan: Kept | None = None
    """Its start in hours of the replay."""
    failed: set[str] = field(default_factory=set)
    boots: int = 0
    first_floor_usd: float = 0.0
    """The floor when it was submitted; 0: nothing has been quoted yet."""
    waited_for_stock: bool = False
    waited_by_choice_h: float = 0.0
    ended_h: float = 0.0
    usd: float = 0.0
    carbon_kg: float = 0.0


def replay(
    trace: Trace, site: Site, signals: Signals, decider: Decider, name: str, terms: Terms, seed: int = 0
) -> Outcome:
    """Run `trace` on `site`, `decider` choosing. The same `seed` gives the same boots under every decider.

    Unreadable: no job fits.
    """
    jobs, left_out = _jobs(trace, site, signals, terms)
    if not jobs:
        said = "; ".join(f"{reason} ({count})" for reason, count in left_out.items())
        raise Unreadable(f"no job can run on this site: {said}")
    run = _Run(site, signals, decider, seed)
    run.all(jobs)
    waits = [job.ended_h - job.submitted_h - job.work.run_h for job in jobs]
    missed = [job for job in jobs if job.deadline_h is not None and job.ended_h > job.deadline_h + 1e-9]
    return Outcome(
        world="site",
        policy=name,
        jobs=len(jobs),
        left_out=dict(left_out),
        carbon_kg=math.fsum(job.carbon_kg for job in jobs),
        normalized_carbon=math.nan,
        cost_usd=math.fsum(run.usd.values()),
        cost_by=dict(run.usd),
        device_hours=math.fsum(job.work.run_h * job.work.nodes for job in jobs),
        mean_wait_h=math.fsum(waits) / len(waits),
        wait_h=spread(waits),
        slowdown=spread(
            [
                max(1.0, (wait + job.work.run_h) / max(job.work.run_h, 1 / 6))
                for job, wait in zip(jobs, waits, strict=True)
            ]
        ),
        results=tuple(
            Result(
                id=job.work.id,
                submitted_h=job.submitted_h,
                devices=job.work.nodes,
                run_h=job.work.run_h,
                wait_h=wait,
                usd=job.usd,
                carbon_kg=job.carbon_kg,
            )
            for job, wait in zip(jobs, waits, strict=True)
        ),
        more={
            "deadlines": sum(job.deadline_h is not None for job in jobs),
            "deadlines_missed": len(missed),
            "deadlines_missed_by_waiting": sum(_by_waiting(job) for job in missed),
            "deadlines_missed_by_capacity": sum(job.waited_for_stock for job in missed),
            "sold_out": run.sold_out,
            "failed_boots": run.failed_boots,
            "interruptions": run.interruptions,
            "lost_device_hours": run.lost_device_hours,
            "highest_premium": run.highest_premium,
            "highest_premium_since_submission": run.highest_since_submission,
            "planned": run.planned,
            "waited_by_choice_h": math.fsum(job.waited_by_choice_h for job in jobs),
        },
    )


def beside(outcome: Outcome, cheapest: Outcome) -> Outcome:
    """`outcome`, its carbon beside that of the same jobs on the cheapest offer at once."""
    share = outcome.carbon_kg / cheapest.carbon_kg if cheapest.carbon_kg else 1.0
    return replace(outcome, normalized_carbon=share)


def works(trace: Trace, site: Site, signals: Signals, terms: Terms) -> list[tuple[Work, float]]:
    """What a replay runs, in its order, each with its submission: for what knows the whole trace beforehand.

    The hours of each count from its submission.
    """
    return [
        (
            replace(job.work, deadline_h=None if job.deadline_h is None else job.deadline_h - job.submitted_h),
            job.submitted_h,
        )
        for job in _jobs(trace, site, signals, terms)[0]
    ]


def _by_waiting(job: _Job) -> bool:
    """Whether it would have ended in time but for the time that it was made to wait; sell-outs are another reason."""
    assert job.deadline_h is not None  # noqa: S101  # only jobs that missed one are asked about
    return not job.waited_for_stock and job.ended_h - job.waited_by_choice_h <= job.deadline_h


def _jobs(trace: Trace, site: Site, signals: Signals, terms: Terms) -> tuple[list[_Job], Counter[str]]:
    jobs: list[_Job] = []
    left_out: Counter[str] = Counter()
    largest = max(max(offer.supply.devices) for offer in site.offers)
    queues: list[list[float]] = [[], []]
    for job in trace.jobs:
        queues[_queue(job)].append(job.length_s / 3600)
    guesses = [spread(lengths) for lengths in queues]
    for job in trace.jobs:
        wait = terms.wait_hours[_queue(job)]
        guess = None if terms.lengths_known else (guesses[_queue(job)].p50, guesses[_queue(job)].p90)
        if job.devices > largest:
            left_out[f"needs more than {largest:g} devices in one place"] += 1
        elif job.submitted_s / 3600 + wait + 2 * job.length_s / 3600 > signals.hours:
            left_out["might end after the last hour of the intensities"] += 1
        else:
            jobs.append(_job(job, wait, guess, site, terms))
    return jobs, left_out


def _queue(job: TraceJob) -> int:
    return 0 if job.length_s < SHORT_H * 3600 else 1


def _job(job: TraceJob, wait: float, guess: tuple[float, float] | None, site: Site, terms: Terms) -> _Job:
    submitted, length = job.submitted_s / 3600, job.length_s / 3600
    limit = max(job.limit_s / 3600 if job.limit_s else length * terms.limit_over, length)
    deadline = None if terms.slack is None else submitted + (1 + terms.slack) * limit
    work = Work(
        id=job.id,
        nodes=job.devices,
        run_h=length,
        run_p90_h=length,
        limit_h=limit,
        may_wait_h=wait,
        kw_per_node=site.kw_per_device,
        checkpoint=Checkpoint(interval_h=site.checkpoint_h, cost_h=0.0) if site.checkpoint_h else None,
    )
    return _Job(
        work=work, guess=guess, submitted_h=submitted, left_h=length, deadline_h=deadline, latest_h=submitted + wait
    )


def _left_of(guess: tuple[float, float], done: float) -> tuple[float, float]:
    """What is thought to be left of a length: the guess less what is done, and never less than a tenth of it."""
    half, most = guess
    return max(half - done, half / 10), max(most - done, most / 10)


class _Run:
    """One replay: what is in use, what it has come to so far."""

    def __init__(self, site: Site, signals: Signals, decider: Decider, seed: int) -> None:
        self._site, self._signals, self._decider, self._seed = site, signals, decider, seed
        self._offers = {offer.name: offer for offer in site.offers}
        self._in_use: Counter[str] = Counter()
        self._events: list[tuple[float, int, str, int, str]] = []  # hour, sequence, what, job or devices, offer
        self._sequence = 0
        self._view: View | None = None
        self._listed: tuple[float, dict[str, Option]] | None = None
        self.lost_device_hours = self.highest_premium = self.highest_since_submission = 0.0
        self.usd: dict[str, float] = {}
        self.sold_out = self.failed_boots = self.interruptions = self.planned = 0

    def all(self, jobs: Sequence[_Job]) -> None:
        """Let everything happen."""
        for index, job in enumerate(jobs):
            self._push(job.submitted_h, "plan", index)
        while self._events:
            now, _, what, number, offer = heapq.heappop(self._events)
            if what == "free":
                self._in_use[offer] -= number
            else:
                self._plan(jobs[number], number, now)

    def _push(self, at: float, what: str, number: int, offer: str = "") -> None:
        self._sequence += 1
        # Devices are given back before plans of the same moment are made.
        heapq.heappush(self._events, (at, self._sequence if what == "plan" else -self._sequence, what, number, offer))

    def _plan(self, job: _Job, index: int, now: float) -> None:
        """Decide; buy, or look again at the next hour or at the start, whichever is first."""
        work = self._rest_of(job, now)
        view = self._as_of(now)
        while True:
            options = tuple(option for name, option in self._list(now).items() if name not in job.failed)
            kept = None if job.plan is None else replace(job.plan, start_h=max(0.0, job.plan.start_h - now))
            self.planned += 1
            decision = self._decider.decide(work, Listed(options=options), view, now, kept) if options else None
            if decision is None:
                job.failed.clear()
                job.waited_for_stock = True
                self._push(now + RETRY_H, "plan", index)
                return
            job.first_floor_usd = job.first_floor_usd or decision.floor_usd
            job.plan = Kept(option_id=decision.option_id, start_h=now + decision.start_h)
            if decision.start_h > _NOW_H:
                again = min(now + decision.start_h, float(int(now + _NOW_H) + 1))
                job.waited_by_choice_h += again - now
                self._push(again, "plan", index)
                return
            offer = self._offers[decision.option_id]
            price, devices = offer.supply.at(now)
            if self._in_use[offer.name] + work.nodes > devices:
                self.sold_out += 1
                job.failed.add(offer.name)
                continue
            self._compare(job, decision)
            self._launch(job, index, offer, price, now)
            return

    def _compare(self, job: _Job, decision: Decision) -> None:
        """What is bought beside the floor of now and, where nothing failed or was sold out, beside that of submission."""
        if decision.floor_usd > 0:
            self.highest_premium = max(self.highest_premium, decision.quoted_usd / decision.floor_usd - 1)
        if job.first_floor_usd > 0 and not (job.boots or job.failed or job.waited_for_stock):
            since = decision.quoted_usd / job.first_floor_usd - 1
            self.highest_since_submission = max(self.highest_since_submission, since)

    def _rest_of(self, job: _Job, now: float) -> Work:
        done = job.work.run_h - job.left_h
        half, most = (job.left_h, job.left_h) if job.guess is None else _left_of(job.guess, done)
        return replace(
            job.work,
            run_h=half,
            run_p90_h=most,
            may_wait_h=max(0.0, job.latest_h - now),
            deadline_h=None if job.deadline_h is None else job.deadline_h - now,
        )

    def _launch(self, job: _Job, index: int, offer: SiteOffer, price: float, now: float) -> None:
        nodes = job.work.nodes
        boot, fails = self._boot(job, offer)
        end = now + boot + (0.0 if fails else job.left_h)
        out = offer.supply.sold_out_at(now, end) if offer.market is CapacityType.SPOT else None
        end = end if out is None else max(out, now)
        self._account(job, offer, price, now, min(now + boot, end), end)
        self._in_use[offer.name] += nodes
        self._push(end, "free", nodes, offer.name)
        job.plan = None
        if out is not None or fails:
            ran = max(0.0, end - now - boot)
            saved = ran // self._site.checkpoint_h * self._site.checkpoint_h if self._site.checkpoint_h else 0.0
            job.left_h -= saved
            self.lost_device_hours += (ran - saved) * nodes
            self.interruptions += out is not None
            self.failed_boots += out is None
            job.failed.add(offer.name)
            self._push(end, "plan", index)
        else:
            job.ended_h = end

    def _boot(self, job: _Job, offer: SiteOffer) -> tuple[float, bool]:
        """How long, and whether it comes to nothing. Drawn from who boots where, so that all policies meet the same."""
        job.boots += 1
        if offer.fails == 0 and offer.boot_p90_h <= offer.boot_p50_h:
            return offer.boot_p50_h, False
        draw = random.Random(f"{self._seed}/{job.work.id}/{offer.name}/{job.boots}")  # noqa: S311  # no secret
        if draw.random() < offer.fails:
            return offer.boot_p90_h, True  # it is given up when nine in ten would have come
        if offer.boot_p50_h <= 0:
            return 0.0, False
        return offer.boot_p50_h * (offer.boot_p90_h / offer.boot_p50_h) ** (draw.gauss(0, 1) / _Z90), False

    def _account(self, job: _Job, offer: SiteOffer, price: float, start: float, ready: float, end: float) -> None:
        nodes, hours = job.work.nodes, end - start
        step = offer.billing_step_h
        billed = max(math.ceil(hours / step - 1e-9) * step if step else hours, offer.billing_minimum_h)
        # On demand the price is that of the purchase; on spot it moves while the machine runs.
        usd = offer.supply.usd(start, start + billed) if offer.market is CapacityType.SPOT else price * billed
        job.usd += usd * nodes
        self.usd[offer.name] = self.usd.get(offer.name, 0.0) + usd * nodes
        truth = self._signals.truth[offer.zone]
        g_hours = self._site.idle_power * integral(truth, start, ready) + integral(truth, ready, end)
        job.carbon_kg += offer.pue * nodes * self._site.kw_per_device * g_hours / 1000

    def _as_of(self, now: float) -> View:
        if self._view is None or self._view.hour != int(now):
            self._view = self._signals.as_of(now)
        return self._view

    def _list(self, now: float) -> dict[str, Option]:
        if self._listed is None or self._listed[0] != now:
            self._listed = (now, self._options(now))
        return self._listed[1]

    def _options(self, now: float) -> dict[str, Option]:
        found: dict[str, Option] = {}
        for offer in self._site.offers:
            price, devices = offer.supply.at(now)
            if devices > 0:
                found[offer.name] = option_of(offer, price, self._site.idle_power)
        return found


def option_of(offer: SiteOffer, price: float, idle_power: float) -> Option:
    """The offer as the objective sees it, at this moment's price."""
    return Option(
        id=offer.name,
        zone=offer.zone,
        market=offer.market,
        usd_per_hour=price,
        billing_step_h=offer.billing_step_h,
        billing_minimum_h=offer.billing_minimum_h,
        boot_p50_h=offer.boot_p50_h,
        boot_p90_h=offer.boot_p90_h,
        fails=offer.fails,
        failed_boot_billed_h=offer.boot_p90_h,
        hazard_per_hour=offer.hazard_per_hour if offer.market is CapacityType.SPOT else 0.0,
        pue=offer.pue,
        idle_power=idle_power,
    )
