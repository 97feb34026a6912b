"""How long a node takes, measured on a sandbox: real Slurm, SSH and WireGuard, an emulated cloud with boots of a set length."""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from measure import Figure, Result

from broker.core.errors import BrokerError
from broker.sandbox.rig import Sandbox

_PLAIN = Path(__file__).with_name("plain_join.py")
_NAMES_FOR_PLAIN = 4
_APART_S = 3.0
_CLOUD = ("--partition=cloud", "--gres=gpu:h100:1")


def stages(boot_s: float, n: int) -> list[Result]:
    """`n` jobs, each on a machine of its own that boots for `boot_s` seconds, a few seconds apart.

    Beside each: the same job on the local node; and, when machines boot at once, the plain script that joins one.
    """
    found: dict[str, Result] = {}
    sandbox = _down_here()
    with sandbox:
        sandbox.up(
            boot_seconds=boot_s, limits="off", resume_timeout_s=900, nodes=n + _NAMES_FOR_PLAIN, suspend_time_s=3600
        )
        plain = itertools.cycle(range(n + 1, n + 1 + _NAMES_FOR_PLAIN))
        sent = {}
        joins = []
        for number in range(n):
            job = _submit(sandbox, "alice", [*_CLOUD, f"--nodelist=h100-{number + 1}"], "sleep 3600")
            sent[job] = time.time()
            here = _run_here(sandbox)
            _keep(found, _WHOLE.format(boot_s), against=here, baseline="the same on the local node")
            if boot_s == 0:
                _started(sandbox, "alice", job)
                joins.append(_plain_join(sandbox, next(plain)))
            else:
                time.sleep(_APART_S)
            print(f"  boot {boot_s:.0f} s: job {job}", file=sys.stderr)  # noqa: T201
        for job, at in sent.items():
            started = _started(sandbox, "alice", job, boot_s + 200)
            for name, seconds in _stages(sandbox, job, at, started, boot_s).items():
                _keep(found, name, seconds)
            _keep(found, _WHOLE.format(boot_s), started - at)
        for seconds in joins:
            _keep(found, _JOIN, against=seconds, baseline="a plain shell script")
    return [result for result in found.values() if boot_s == 0 or "boot" in result.what]


def without_waiter(n: int) -> list[Result]:
    """The last step with and without our PrologSlurmctld, and what a job that is not ours pays for it.

    Without it the jobs are root's: they need no home.
    """
    ours, theirs = (
        Result(what=_LET_GO, baseline="without the waiter"),
        Result(what=_STRANGER, baseline="without our programs"),
    )
    sandbox = _down_here()
    with sandbox:
        sandbox.up(boot_seconds=0.0, limits="off", nodes=2 * n, suspend_time_s=3600)
        theirs.samples = [_run_here(sandbox) for _ in range(n)]
        for job in _spaced(sandbox, "alice", range(1, n + 1), "sleep 3600"):
            ours.samples.append(_started(sandbox, "alice", job, 200) - _registered(sandbox, job))
        _take_programs_out(sandbox)
        theirs.against = [_run_here(sandbox) for _ in range(n)]
        script = "scontrol update jobid=$SLURM_JOB_ID comment=$(date +%s.%N)\nsleep 3600"
        for job in _spaced(sandbox, "root", range(n + 1, 2 * n + 1), script, "--chdir=/", "--output=/dev/null"):
            started = _wait(partial(_comment, sandbox, job), f"job {job} to run", 200)
            ours.against.append(started - _registered(sandbox, job))
    return [ours, theirs]


def _spaced(sandbox: Sandbox, user: str, numbers: Iterable[int], script: str, *options: str) -> list[int]:
    """A job on each of the nodes, so far apart that their joins do not wait for one another's."""
    jobs = []
    for number in numbers:
        jobs.append(_submit(sandbox, user, [*_CLOUD, *options, f"--nodelist=h100-{number}"], script))
        time.sleep(_APART_S)
    return jobs


def at_once(n: int) -> list[Figure]:
    """One job on each of `n` nodes, all asked for in one moment."""
    sandbox = _down_here()
    with sandbox:
        sandbox.up(boot_seconds=0.0, limits="off", nodes=n, resume_timeout_s=900, suspend_time_s=3600)
        before, least = _available_mib(), _available_mib()
        began = time.time()
        array = _submit(sandbox, "alice", [*_CLOUD, f"--array=1-{n}", "--exclusive"], "sleep 3600")
        limit = time.time() + 800
        while len(ready := [lease for lease in _leases(sandbox) if lease["state"] == "ready"]) < n:
            least = min(least, _available_mib())
            if time.time() > limit:
                raise RuntimeError(f"{len(ready)} of {n} nodes registered in 800 s")
            time.sleep(1.0)
        registered = time.time() - began
        _wait(lambda: _running(sandbox, array) == n, "all to run", 300)
        running = time.time() - began
        least = min(least, _available_mib())
    what = f"{n} real nodes at once"
    return [
        Figure(what=f"{what}: sbatch → all registered", value=registered, unit="s"),
        Figure(what=f"{what}: sbatch → all run", value=running, unit="s"),
        Figure(what=f"{what}: peak memory of everything, hosts and Slurm", value=before - least, unit="MiB"),
    ]


_WHOLE = "boot {:.0f} s: sbatch → its script runs"
_JOIN = "SSH answers → slurmd started (the join)"
_LET_GO = "registered → the script runs"
_STRANGER = "a job of another partition: sbatch → runs"


def _stages(sandbox: Sandbox, job: int, sent: float, started: float, boot_s: float) -> dict[str, float]:
    lease = _lease(sandbox, job)
    asked = _seconds(lease["requested_at"])
    at = {event["became"]: _seconds(event["at"]) for event in reversed(lease["events"])}  # the first of each
    steps = {step["name"]: _seconds(step["finished_at"]) for step in lease["steps"]}
    first = min(_seconds(step["finished_at"]) - step["seconds"] for step in lease["steps"])
    return {
        "sbatch → ResumeProgram called (Slurm's own)": asked - sent,
        "ResumeProgram called → create sent": at["launching"] - asked,
        "create sent → answered (emulator)": at["bootstrapping"] - at["launching"],
        f"boot {boot_s:.0f} s: booted → the join begins": first - at["bootstrapping"] - boot_s,
        _JOIN: steps["slurmd"] - first,
        "slurmd started → registered": at["ready"] - steps["slurmd"],
        _LET_GO: started - at["ready"],
    }


def _plain_join(sandbox: Sandbox, number: int) -> float:
    answer = sandbox.run("root", [*_python(), str(_PLAIN), f"h100-{number}"], timeout=180)
    if answer.returncode != 0:
        raise RuntimeError(f"the plain script failed: {answer.stderr.strip()[-500:]}")
    return float(answer.stdout.split()[-1])


def _python() -> list[str]:
    return [sys.executable]


def _take_programs_out(sandbox: Sandbox) -> None:
    """As before the broker came: no PrologSlurmctld, no job_submit of ours."""
    conf = sandbox.layout.etc_slurm / "broker.conf"
    ours = ("PrologSlurmctld", "EpilogSlurmctld", "JobSubmitPlugins")
    kept = [line for line in conf.read_text().splitlines() if not line.startswith(ours)]
    conf.write_text("\n".join(kept) + "\n")
    answer = sandbox.run("root", ["scontrol", "reconfigure"])
    if answer.returncode != 0:
        raise RuntimeError(f"scontrol reconfigure: {answer.stderr.strip()}")


def _down_here() -> Sandbox:
    sandbox = Sandbox()
    if sandbox.is_up():
        raise BrokerError(f"a sandbox is up in {sandbox.layout.directory}: `broker sandbox down` ends it")
    return sandbox


def _keep(
    found: dict[str, Result], what: str, seconds: float | None = None, against: float | None = None, baseline: str = ""
) -> None:
    result = found.setdefault(what, Result(what=what))
    if seconds is not None:
        result.samples.append(seconds)
    if against is not None:
        result.baseline = baseline
        result.against.append(against)


def _run_here(sandbox: Sandbox) -> float:
    sent = time.time()
    job = _submit(sandbox, "alice", ["--partition=local"], "true")
    return _started(sandbox, "alice", job) - sent


def _submit(sandbox: Sandbox, user: str, options: list[str], then: str) -> int:
    mark = 'date +%s.%N > "$HOME/started.$$"; mv "$HOME/started.$$" "$HOME/started-$SLURM_JOB_ID"\n'
    script = f"#!/bin/sh\n{mark if user != 'root' else ''}{then}\n"
    answer = sandbox.run(user, ["sbatch", "--parsable", "--time=60", *options], stdin=script)
    if answer.returncode != 0:
        raise RuntimeError(f"sbatch failed: {answer.stderr.strip()}")
    return int(answer.stdout)


def _started(sandbox: Sandbox, user: str, job: int, seconds: float = 90) -> float:
    """When its script ran, by the script's own clock."""
    mark = sandbox.layout.homes / user / f"started-{job}"
    _wait(mark.exists, f"job {job} to run", seconds)
    return float(mark.read_text())


def _comment(sandbox: Sandbox, job: int) -> float | None:
    text = sandbox.run("root", ["scontrol", "-o", "show", "job", str(job)]).stdout
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    return float(words["Comment"]) if "Comment" in words else None


def _running(sandbox: Sandbox, array: int) -> int:
    answer = sandbox.run("root", ["squeue", "-h", "-r", "-j", str(array), "-t", "R", "-o", "%i"])
    return len(answer.stdout.split())


def _registered(sandbox: Sandbox, job: int) -> float:
    return next(_seconds(event["at"]) for event in _lease(sandbox, job)["events"] if event["became"] == "ready")


def _lease(sandbox: Sandbox, job: int) -> dict[str, Any]:
    listed = next(lease for lease in _leases(sandbox) if lease["job_id"] == job)
    answer = sandbox.run("root", ["broker", "lease", "show", listed["id"], "--json"])
    lease: dict[str, Any] = json.loads(answer.stdout)["lease"]
    return lease


def _leases(sandbox: Sandbox) -> list[dict[str, Any]]:
    answer = sandbox.run("root", ["broker", "lease", "list", "--json"])
    rows: list[dict[str, Any]] = json.loads(answer.stdout)["leases"]
    return rows


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _available_mib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 1024


def _wait(reached: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    limit = time.monotonic() + seconds
    while not (found := reached()):
        if time.monotonic() > limit:
            raise RuntimeError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.02)
    return found
