"""`broker why`: what happened to a job or a node and what is awaited, told to people in times and money."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from broker.core.demand import Job
from broker.core.leases import LeaseState
from broker.core.money import amount_text
from broker.services.views import LeaseView, Why, WhyLine

_AWAITED = {
    LeaseState.REQUESTED: "a machine to buy",
    LeaseState.LAUNCHING: "the provider's answer to the purchase",
    LeaseState.BOOTSTRAPPING: "the machine to boot and to join the cluster",
    LeaseState.DRAINING: "the machine to stop its work",
    LeaseState.RELEASING: "the provider to confirm that the machine is gone",
}


def explain_job(
    job: Job,
    views: Sequence[LeaseView],
    now: datetime,
    left_alone: Sequence[str] = (),
    wished: Mapping[str, str] | None = None,
) -> Why:
    """The story of one job from Slurm's word on it and the leases behind its nodes.

    `left_alone`: what is not bought now; `wished`: the job's wishes, key by key as they were written.
    """
    story = [*_story(views), *_of_slurm(job)]
    story.sort(key=lambda line: (line.at is None, line.at or now))
    return Why(
        target=str(job.id),
        headline=_job_headline(job, views, now),
        story=tuple(story + _not_acted_on(wished or {}) + _left_alone(job, left_alone)),
        awaited=_awaited(views) if job.started_at is None or job.state == "CONFIGURING" else None,
        owner=job.user,
        leases=tuple(views),
    )


def explain_node(node: str, slurm_state: str, views: Sequence[LeaseView]) -> Why:
    """The story of one node name: its last lease, or that it has none."""
    last = views[-1:]
    if not last:
        headline = (
            f"{node} is {slurm_state} in Slurm and never had a machine. Submit a job to its partition to buy one."
        )
    else:
        lease = last[0].lease
        where = f"{lease.instance_type} in {lease.zone} from {lease.provider}" if lease.provider else "no machine yet"
        headline = (
            f"{node} is {slurm_state} in Slurm; its last lease {lease.id} is {lease.state} ({where}).{_money(last)}"
        )
    return Why(
        target=node,
        headline=headline,
        story=tuple(_story(last)),
        awaited=_awaited(last),
        owner=None,
        leases=tuple(last),
    )


def _job_headline(job: Job, views: Sequence[LeaseView], now: datetime) -> str:
    who = f"Job {job.id} ({job.name}) of {job.user}"
    nodes = f" on {', '.join(job.nodes)}" if job.nodes else ""
    match job.state:
        case "PENDING":
            said = f"waits in Slurm's queue ({job.reason})"
        case "CONFIGURING":
            said = f"waits for its machine{nodes}"
        case "RUNNING":
            said = f"runs{nodes}" + (f" for {_span(now - job.started_at)}" if job.started_at else "")
        case other:
            said = f"is {other.lower()}"
            if job.started_at and job.ended_at:
                said += f" after {_span(job.ended_at - job.started_at)}{nodes}"
    return f"{who} {said}.{_money(views)}"


def _money(views: Sequence[LeaseView]) -> str:
    bought = [view for view in views if view.cost is not None]
    if not bought:
        return ""
    low = sum((view.cost.low for view in bought if view.cost), Decimal(0))
    high = sum((view.cost.high for view in bought if view.cost), Decimal(0))
    currency = bought[0].cost.currency if bought[0].cost else ""
    amount = amount_text(low) if amount_text(low) == amount_text(high) else f"{amount_text(low)} to {amount_text(high)}"
    ended = all(view.lease.state is LeaseState.RELEASED for view in bought)
    machines = "Its machine" if len(bought) == 1 else f"Its {len(bought)} machines"
    return f" {machines} cost {amount} {currency}{'' if ended else ' so far'}."


def _story(views: Sequence[LeaseView]) -> list[WhyLine]:
    several = len({view.lease.node for view in views}) > 1
    lines = [
        WhyLine(at=event.at, text=f"{view.lease.node}: {event.reason}" if several else event.reason)
        for view in views
        for event in view.events
    ]
    lines += [
        WhyLine(at=step.finished_at, text=f"{view.lease.node}: {_JOINED}" if several else _JOINED)
        for view in views
        for step in view.steps
        if step.name == "slurmd"
    ]
    lines.sort(key=lambda line: line.at or datetime.max)
    # A refused purchase passes two states with one reason: once is enough for people.
    return [line for line, before in zip(lines, [None, *lines], strict=False) if not before or line.text != before.text]


_JOINED = "the machine passed its tests and joined; slurmd started"


def _of_slurm(job: Job) -> list[WhyLine]:
    lines = []
    if job.submitted_at:
        lines.append(WhyLine(at=job.submitted_at, text=f"submitted to partition {job.partition}"))
    if job.started_at and job.state not in {"PENDING", "CONFIGURING"}:
        lines.append(WhyLine(at=job.started_at, text="started"))
    if job.ended_at and job.state not in {"PENDING", "CONFIGURING", "RUNNING"}:
        lines.append(WhyLine(at=job.ended_at, text=f"ended: {job.state.lower()}"))
    return lines


_ACTED_ON = frozenset({"zones", "providers", "spot"})


def _not_acted_on(wished: Mapping[str, str]) -> list[WhyLine]:
    others = ", ".join(f"{key}={value}" for key, value in sorted(wished.items()) if key not in _ACTED_ON)
    if not others:
        return []
    text = f"this version does not act on {others}: the offer of the best price and chance is bought"
    return [WhyLine(at=None, text=text)]


def _left_alone(job: Job, words: Sequence[str]) -> list[WhyLine]:
    """Only while the job waits: then it may be why."""
    if job.state not in {"PENDING", "CONFIGURING"}:
        return []
    return [WhyLine(at=None, text=f"not bought now: {each}") for each in words]


def _awaited(views: Sequence[LeaseView]) -> str | None:
    for view in reversed(views):
        lease = view.lease
        if lease.state in _AWAITED:
            return (
                f"{_AWAITED[lease.state]} (Slurm gives {lease.node} up at {lease.deadline:%H:%M:%S} UTC)"
                if (lease.state in {LeaseState.REQUESTED, LeaseState.LAUNCHING, LeaseState.BOOTSTRAPPING})
                else _AWAITED[lease.state]
            )
    return None


def _span(span: object) -> str:
    return str(span).split(".", maxsplit=1)[0]
