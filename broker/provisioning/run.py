"""Runs the steps of a join, from where the last attempt ended."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from broker.core.errors import StepFailed
from broker.provisioning.acceptance import accept
from broker.provisioning.base import Shell, Step
from broker.provisioning.steps import JoinPlan, join_steps

OnStep = Callable[[str, dict[str, str], float], None]
"""Records a step that ended well: its name, its outputs, the seconds it took."""


def run_join(
    shell: Shell,
    plan: JoinPlan,
    done: Mapping[str, Mapping[str, str]],
    on_step: OnStep,
    add_peer: Callable[[str], None],
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Run every step of `plan` that `done` (name → recorded outputs) lacks, in order, each reported to `on_step`.

    `add_peer` is called with the node's WireGuard key before the overlay comes up, also when that key was recorded by
    an earlier attempt. StepFailed: the machine is no good. NodeUnreachable: try again, `done` says where to go on.
    """
    for step in join_steps(plan):
        if step.name in done:
            outputs = dict(done[step.name])
        else:
            began = time.monotonic()
            outputs = run_step(shell, step)
            if step.name == "facts":
                _judge(plan, outputs, clock())
            on_step(step.name, outputs, time.monotonic() - began)
        if step.name == "overlay" and "slurmd" not in done:
            add_peer(outputs["public_key"])


def run_step(shell: Shell, step: Step) -> dict[str, str]:
    """Send what the step needs, run it, and return its outputs. StepFailed, NodeUnreachable."""
    if step.upload is not None:
        shell.put(step.upload)
    return dict(shell.run(step).outputs)


def _judge(plan: JoinPlan, facts: Mapping[str, str], now: datetime) -> None:
    problems = accept(plan.shape, facts, now, plan.bundle.arch)
    if problems:
        raise StepFailed(f"acceptance of the machine: {'; '.join(problems)}")
