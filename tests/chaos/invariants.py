"""What must be true of a world that has come to rest, whatever happened to its daemon."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from chaos.world import World

from broker.core.leases import LIVING, Lease
from broker.core.usage import UsageKind, bounds
from broker.db import jobs, usage
from broker.db.engine import reading

_GRANULARITY = timedelta(seconds=60)
_RESUMES_AN_HOUR = 10


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Each entry is a sentence about one thing that is wrong.

    `leaked`: a machine or its lease lives on, or something was left at the hub, at a home, in the spool. `doubled`: two
    machines for one lease, a job that ran or finished twice, a charge for nothing. `lost`: a job that did not finish, a
    machine the ledger never knew, a charge outside the ledger's bounds.
    """

    leaked: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        kinds = {"leaked": self.leaked, "doubled": self.doubled, "lost": self.lost}
        return [f"{kind}: {text}" for kind, texts in kinds.items() for text in texts]


def judge(world: World) -> Verdict:
    verdict = Verdict()
    ledger = world.watch.ledger()
    verdict.doubled.extend(world.watch.doubled)
    verdict.doubled.extend(world.slurm.wrong)
    verdict.lost.extend(world.gave_up)
    _machines(world, ledger, verdict)
    _charges(world, ledger, verdict)
    _remains(world, verdict)
    _jobs(world, verdict)
    return verdict


def _machines(world: World, ledger: list[Lease], verdict: Verdict) -> None:
    by_label = {lease.label: lease for lease in ledger if lease.label is not None}
    names = [row["name"] for row in world.cloud.bill()]
    for row in world.cloud.bill():
        if row["terminated_at"] is None:
            verdict.leaked.append(f"instance {row['instance_id']} ({row['name']}) lives on")
        if row["name"] not in by_label:
            verdict.lost.append(f"instance {row['instance_id']} ({row['name']}) belongs to no lease")
    verdict.doubled.extend(
        f"{name}: {names.count(name)} machines were bought" for name in sorted(set(names)) if names.count(name) > 1
    )
    verdict.leaked.extend(
        f"lease {lease.id} of {lease.node} is {lease.state} for ever: {lease.reason}"
        for lease in ledger
        if lease.state in LIVING
    )


def _charges(world: World, ledger: list[Lease], verdict: Verdict) -> None:
    billed: dict[str, Decimal] = {}
    for row in world.cloud.bill():
        billed[row["name"]] = billed.get(row["name"], Decimal(0)) + Decimal(row["amount"])
    now = world.pace.now()
    with reading(world.ledger) as db:
        used = {lease.id: usage.of_lease(db, lease.id) for lease in ledger}
    for lease in ledger:
        start, end = used[lease.id].get(UsageKind.START), used[lease.id].get(UsageKind.END)
        bill = billed.get(lease.label or "", Decimal(0))
        if start is None or (end is None and lease.state not in LIVING):
            if bill > 0 or start is not None:
                verdict.lost.append(
                    f"lease {lease.id}: the provider bills {bill} USD, and the ledger has no usage of it"
                )
            continue
        ours = bounds(start, end, now, _GRANULARITY)
        # The provider's bill has more digits than ours, whose bounds are rounded outwards.
        if not ours.low <= bill <= ours.high:
            kind = verdict.lost if bill > ours.high else verdict.doubled
            kind.append(f"lease {lease.id}: the provider bills {bill}, the ledger says [{ours.low}, {ours.high}]")


def _remains(world: World, verdict: Verdict) -> None:
    verdict.leaked.extend(f"peer {peer.address} is still at the hub" for peer in world.machines.net.peers())
    verdict.leaked.extend(
        f"the home of {export.user} is still exported to {export.lease}" for export in world.machines.as_user.exports()
    )
    spool = world.folder / "spool"
    verdict.leaked.extend(
        f"{path.relative_to(spool)} is left in the spool"
        for path in sorted(spool.rglob("*"))
        if path.suffix in {".json", ".job", ".fifo"}  # `bad/` too: no intent of ours is malformed
    )
    with reading(world.ledger) as db:
        verdict.leaked.extend(f"job {job.job_id} is still at home on {job.lease_id}" for job in jobs.open_jobs(db))


def _jobs(world: World, verdict: Verdict) -> None:
    for job in world.slurm.job_table.values():
        finished = [run for run in job.runs if run.finished_at is not None]
        if sum(not run.is_stray for run in finished) > 1:
            verdict.doubled.append(f"job {job.id} finished more than once")
        for run in finished:
            # A node that Slurm took for dead may finish its work before the job runs again (Slurm runs a requeued job at
            # least once); never while it does.
            if any(later.number > run.number and later.started < (run.finished_at or 0.0) for later in job.runs):
                verdict.doubled.append(f"job {job.id}: run {run.number} went on while the next one worked")
        if job.state == "COMPLETED" and not finished:
            verdict.lost.append(f"job {job.id} is said to have ended, and never did")
        if job.state not in {"COMPLETED", "CANCELLED"} and (job.batch or job.state != "NODE_FAIL"):
            wait = (
                f"{job.state} ({job.reason}), held={job.held}, begin={datetime.fromtimestamp(job.begin, UTC):%H:%M:%S}"
            )
            verdict.lost.append(f"job {job.id} of {job.size} nodes never finished: {wait}")


def too_many_resumes(world: World) -> list[str]:
    """Jobs for which ResumeProgram was called more than ten times within an hour."""
    found = []
    for job in world.slurm.job_table.values():
        calls = job.resume_calls
        worst = max((sum(first <= call < first + 3600 for call in calls) for first in calls), default=0)
        if worst > _RESUMES_AN_HOUR:
            found.append(f"job {job.id}: {worst} calls of ResumeProgram within an hour")
    return found
