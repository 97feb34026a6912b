"""What the stories of lost parts have in common: jobs that write which run they are, and machines that boot."""

import json
import signal

# Two lines a second, each with the run it belongs to: two runs that write at the same time show in the order.
LINES = """run=$SLURM_RESTART_COUNT; [ -n "$run" ] || run=0
[ "$run" = 0 ] && count={count} || count=6
for line in $(seq $count); do echo "$run $(hostname) $line" >>{file}; sleep 0.5; done"""
SHIM = "/etc/slurm/broker"


def runs_of(story, file):
    return [line.split()[:2] for line in story.home("alice", file).splitlines()]


def never_interleaved(story, file):
    """After the first line of a run no line of another: the machines, in the order in which they wrote."""
    order = []
    for run in runs_of(story, file):
        if not order or order[-1] != run:
            order.append(run)
    assert len({tuple(run) for run in order}) == len(order), f"the runs interleave: {order}"
    return order


def running(story, file, *words, count=30):
    job = story.submit("--requeue", *words, script=LINES.format(count=count, file=file))
    story.wait(lambda: len(runs_of(story, file)) > 2)
    (lease,) = [x for x in story.leases() if x["node"] == story.job(job)["NodeList"] and x["state"] == "ready"]
    return job, lease


def reran(story, job, lease, file, seconds=90):
    """The job ended well in a second run, on another machine, and the first machine is gone."""
    assert story.ends(job, seconds) == "COMPLETED"
    order = never_interleaved(story, file)
    assert len(order) == 2, f"expected two runs of job {job}, saw {order}"
    story.wait(lambda: lease["instance_id"] not in story.sandbox.instances(), 60)
    return order


def events(story, lease):
    shown = json.loads(story.broker("lease", "show", lease["id"], "--json").stdout)["lease"]
    return " | ".join(event["reason"] for event in shown["events"])


def booting(story, **words):
    """A job on a fresh node, and its lease as soon as the machine is bought."""
    job = story.submit(*story.fresh(), **words)
    (lease,) = story.wait(lambda: [x for x in story.of_job(job) if x["instance_id"]])
    return job, lease


def address_of(story, lease):
    return story.wait(lambda: next(x["address"] for x in story.leases() if x["id"] == lease["id"]))


def call(story, verb, nodes):
    """One of Slurm's power-save programs, as slurmctld starts it."""
    return story.sandbox.run(
        "root", ["setpriv", "--reuid=slurm", "--regid=slurm", "--init-groups", f"{SHIM}/{verb}", nodes]
    )


def end(story, part):
    story.sandbox.signal(part, signal.SIGKILL)
    story.wait(lambda: not story.sandbox.is_alive(part))
