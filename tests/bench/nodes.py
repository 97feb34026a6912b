"""How long a node takes, measured on a sandbox: real Slurm, SSH and WireGuard, an emulated cloud that boots in no time."""

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from measure import Result

from broker.sandbox.rig import Sandbox

_SHAPES = ("h100",) * 8
_WAIT_S = 90.0


def results(rounds: int) -> list[Result]:
    """`rounds` times: a job on each node name, one after another, each on a machine of its own."""
    sandbox = Sandbox()
    if sandbox.is_up():
        raise RuntimeError(f"a sandbox is up in {sandbox.layout.directory}: `broker sandbox down` ends it")
    found: dict[str, Result] = {}
    with sandbox:
        sandbox.up(boot_seconds=0.0, limits="off")
        for _ in range(rounds):
            _one_round(sandbox, found)
    return list(found.values())


def _one_round(sandbox: Sandbox, found: dict[str, Result]) -> None:
    jobs = []
    for shape in _SHAPES:
        sent, job, started = _job(sandbox, ["--partition=cloud", f"--gres=gpu:{shape}:1"], "sleep 3600")
        here, _, at_once = _job(sandbox, ["--partition=local"], "true")
        jobs.append(job)
        for name, seconds in _stages(sandbox, job, sent, started).items():
            _keep(found, name, seconds)
        _keep(found, "sbatch → its script runs, on a machine bought for it", started - sent, at_once - here)
        print(f"  job {job}: {started - sent:.1f} s", file=sys.stderr)  # noqa: T201
    sandbox.run("root", ["scancel", *map(str, jobs)])
    _wait(lambda: not sandbox.instances() and not _leases(sandbox), "the machines to be given back")


def _keep(found: dict[str, Result], what: str, seconds: float, against: float | None = None) -> None:
    baseline = "the same on the local node" if against is not None else ""
    result = found.setdefault(what, Result(what=what, baseline=baseline))
    result.samples.append(seconds)
    if against is not None:
        result.against.append(against)


def _job(sandbox: Sandbox, options: list[str], then: str) -> tuple[float, int, float]:
    """When `sbatch` was called, the job's number, and when its script ran, by the script's own clock."""
    script = f'#!/bin/sh\ndate +%s.%N > "$HOME/started.part"; mv "$HOME/started.part" "$HOME/started-$SLURM_JOB_ID"\n{then}\n'
    sent = time.time()
    answer = sandbox.run("alice", ["sbatch", "--parsable", "--time=60", *options], stdin=script)
    if answer.returncode != 0:
        raise RuntimeError(f"sbatch failed: {answer.stderr.strip()}")
    job = int(answer.stdout)
    mark = sandbox.layout.homes / "alice" / f"started-{job}"
    _wait(mark.exists, f"job {job} to run")
    return sent, job, float(mark.read_text())


def _stages(sandbox: Sandbox, job: int, sent: float, started: float) -> dict[str, float]:
    listed = next(lease for lease in _leases(sandbox) if lease["job_id"] == job)
    answer = sandbox.run("root", ["broker", "lease", "show", listed["id"], "--json"])
    lease: dict[str, Any] = json.loads(answer.stdout)["lease"]
    asked = _seconds(lease["requested_at"])
    at = {event["became"]: _seconds(event["at"]) for event in reversed(lease["events"])}  # the first of each
    steps = {step["name"]: _seconds(step["finished_at"]) for step in lease["steps"]}
    first = min(_seconds(step["finished_at"]) - step["seconds"] for step in lease["steps"])
    return {
        "sbatch → ResumeProgram called (Slurm's own)": asked - sent,
        "ResumeProgram called → create sent": at["launching"] - asked,
        "create sent → answered (emulator)": at["bootstrapping"] - at["launching"],
        "create answered → SSH answers (boot 0)": first - at["bootstrapping"],
        "SSH answers → slurmd started (the join)": steps["slurmd"] - first,
        "slurmd started → script runs (registered, home there)": started - steps["slurmd"],
    }


def _leases(sandbox: Sandbox) -> list[dict[str, Any]]:
    answer = sandbox.run("root", ["broker", "lease", "list", "--json"])
    rows: list[dict[str, Any]] = json.loads(answer.stdout)["leases"]
    return rows


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _wait(reached: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + _WAIT_S
    while not reached():
        if time.monotonic() > limit:
            raise RuntimeError(f"waited {_WAIT_S:.0f} s for {what}")
        time.sleep(0.02)
