"""Stories of jobs, each cut at every effect by the crash driver."""

from collections.abc import Callable
from dataclasses import dataclass

from chaos.invariants import too_many_resumes
from chaos.slurmctld import Times
from chaos.world import USUAL, Kind, World

from broker.core.leases import LeaseState


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`begin` sets the faults and submits; `act`, if any, is told of each round until the world is quiet.

    `over`: what must have come before it may be quiet. `check`: sentences about what else must be true. `patient`: a chain
    of deaths is given more time than ResumeTimeout.
    `limit`: seconds of the world's clock within which it must be quiet, deaths included.
    """

    name: str
    begin: Callable[[World], None]
    act: Callable[[World], None] = lambda world: None
    over: Callable[[World], bool] = lambda world: True
    check: Callable[[World], list[str]] = lambda world: []
    kind: Kind = USUAL
    patient: bool = True
    limit: float = 2400.0


def _one_job(world: World) -> None:
    world.slurm.submit()


def _third_offer(world: World) -> None:
    world.fault(
        {"kind": "sold_out", "path": "/instance-operations/launch", "times": 1},
        {"kind": "lies_gpu", "times": 1},
    )
    world.slurm.submit()


def _answer_lost(world: World) -> None:
    world.fault({"kind": "answer_lost", "times": 1}, {"kind": "list_lag", "times": 1, "seconds": 15})
    world.slurm.submit()


def _machine_never_answers(world: World) -> None:
    world.fault({"kind": "ssh_never", "times": 1})
    world.slurm.submit()


def _release_while_it_runs(world: World) -> None:
    """An operator, once: the job runs again elsewhere."""
    if world.slurm.job_table[1].state == "RUNNING" and len(world.slurm.job_table[1].runs) == 1:
        for lease in world.watch.ledger():
            if lease.state is LeaseState.READY:
                world.release(lease.id)


def _gang(world: World) -> None:
    world.slurm.submit(size=4)


def _cancelled(world: World) -> None:
    world.fault({"kind": "slow", "path": "/instance-operations/launch", "times": 1})
    world.slurm.submit()


def _cancel_while_booting(world: World) -> None:
    job = world.slurm.job_table[1]
    if job.state == "CONFIGURING" and world.cloud.living():
        world.slurm.scancel(1)


def _nothing_to_buy(world: World) -> None:
    world.fault({"kind": "sold_out", "path": "/instance-operations/launch", "times": 6})
    world.slurm.submit()


def _sold_out_for_an_hour(world: World) -> None:
    world.fault({"kind": "sold_out", "path": "/instance-operations/launch"})
    world.slurm.submit()


def _capacity_after_an_hour(world: World) -> None:
    if world.cloud.faults and world.pace.seconds() - world.slurm.job_table[1].submitted > 3700:
        world.cloud.faults = []
    if not world.cloud.faults:
        world.operator_hurries()  # after six rounds the job is held until somebody releases it


def _test_purchase(world: World) -> None:
    """Somebody asks for one until one was accepted."""
    if not _accepted(world) and all(lease.state is LeaseState.RELEASED for lease in world.watch.ledger()):
        world.test_purchase("lambda-a")


def _accepted(world: World) -> bool:
    return any((lease.reason or "").startswith("accepted") for lease in world.watch.ledger())


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="one-job", begin=_one_job),
        Scenario(name="third-offer", begin=_third_offer),
        Scenario(name="answer-lost", begin=_answer_lost),
        Scenario(name="never-answers", begin=_machine_never_answers),
        Scenario(
            name="resume-timeout",
            begin=_machine_never_answers,
            kind=Kind(times=Times(resume_timeout=90.0), boot_timeout=10_000),
            patient=False,
        ),
        Scenario(name="released", begin=_one_job, act=_release_while_it_runs),
        Scenario(name="gang", begin=_gang),
        Scenario(name="cancelled", begin=_cancelled, act=_cancel_while_booting),
        Scenario(name="test-purchase", begin=lambda world: None, act=_test_purchase, over=_accepted),
        Scenario(name="sold-out", begin=_nothing_to_buy),
        Scenario(
            name="sold-out-for-an-hour",
            begin=_sold_out_for_an_hour,
            act=_capacity_after_an_hour,
            check=too_many_resumes,
            kind=Kind(speed=150.0),
            limit=9000.0,
        ),
    )
}
