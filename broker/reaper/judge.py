"""Whether a machine of ours may be ended. Pure; whatever is not known speaks for the machine."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.living import KeptMachine, LivingWord
from broker.core.offers import Instance, InstanceState


@dataclass(frozen=True, kw_only=True)
class Verdict:
    end: bool
    why: str


def judge(
    instance: Instance,
    word: LivingWord | None,
    now: datetime,
    *,
    busy: Set[str] | None,
    seen_since: datetime,
    max_age: timedelta | None,
) -> Verdict:
    """The verdict on one instance with our label.

    `word` None: there is none to be read; then only what we have seen for longer than `max_age` is ended (None:
    nothing is). `busy`: the nodes on which Slurm has a job now; None: it cannot be asked.
    """
    if instance.state is InstanceState.STOPPING:
        return _keep("the provider is ending it")
    if word is None:
        if max_age is None:
            return _keep("there is no word of the daemon to judge by, and no --max-age")
        if now - seen_since < max_age:
            return _keep(f"there is no word of the daemon; first seen at {_at(seen_since)}, and --max-age is not over")
        return _end(f"there is no word of the daemon, and it was first seen at {_at(seen_since)}: --max-age is over")
    machine = word.machines.get(instance.label or "")
    if machine is None:
        # No job of ours is on it: a job is let go only after its machine stands in the word.
        if now < word.said_at + word.quiet:
            return _keep(f"the daemon lived at {_at(word.said_at)} and looks after orphans itself")
        return _end(f"the daemon did not know it when it was last heard of, at {_at(word.said_at)}")
    return _judge_known(machine, word, now, busy)


def needs_slurm(word: LivingWord | None, label: str | None, now: datetime) -> bool:
    """Whether the verdict depends on what Slurm says of the machine's jobs."""
    machine = word.machines.get(label or "") if word is not None else None
    return machine is not None and machine.keep_until <= now and any(job.until > now for job in machine.jobs)


def _judge_known(machine: KeptMachine, word: LivingWord, now: datetime, busy: Set[str] | None) -> Verdict:
    if now < machine.keep_until:
        return _keep(f"the daemon lived at {_at(word.said_at)} and keeps it")
    silent = f"the daemon was last heard of at {_at(word.said_at)}"
    running = max((job for job in machine.jobs if job.until > now), key=lambda job: job.until, default=None)
    if running is None:
        if machine.jobs:
            return _end(f"job {machine.jobs[0].id} had to be over at {_at(machine.jobs[0].until)}; {silent}")
        if word.said_at + word.quiet > now:
            return _end(f"the daemon gave it up and could not end it until {_at(machine.keep_until)}")
        return _end(f"it is idle; {silent}")
    if busy is not None and machine.node not in busy:
        return _end(f"job {running.id} is over, says Slurm; {silent}")
    return _keep(f"job {running.id} may run on {machine.node} until {_at(running.until)}")


def _keep(why: str) -> Verdict:
    return Verdict(end=False, why=why)


def _end(why: str) -> Verdict:
    return Verdict(end=True, why=why)


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
