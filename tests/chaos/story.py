"""What happens in one world of the chaos: drawn from a seed, whole, before anything has happened.

Its picks among machines and jobs are fractions, so that the same seed means the same story whatever the threads do.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaos.effects import Cut
from chaos.machines import USERS, Machine
from chaos.slurmctld import SlurmJob, Times
from chaos.world import CREDENTIALS, Kind, World

from broker.core.leases import LIVING

_LAUNCH = "/instance-operations/launch"
_STEPS = ("host_key_made", "host_key", "facts", "bundle", "overlay", "overlay_up", "munge", "slurmd", "home_mount")
_CALLS = ("error_500", "html_200", "half_json", "wrong_type", "rate_limited", "slow")
_MEAN_GAP = 9.0
"""Seconds between two happenings. Shorter, and nothing is ever bought to its end; longer, and crashes meet quiet worlds."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """At `at` seconds of the story; `text` is for people."""

    at: float
    text: str
    deed: Callable[[World], object]


@dataclass(frozen=True, kw_only=True)
class Story:
    kind: Kind
    happenings: tuple[Happening, ...]
    deaths: int

    @classmethod
    def of_seed(cls, seed: int, deaths: int, speed: float) -> "Story":
        """`deaths`: how many daemons die before the world is left in peace."""
        dice = random.Random(seed)
        kind = Kind(
            speed=speed,
            nodes=dice.choice((4, 8, 12)),
            boot=dice.uniform(1.0, 25.0),
            limits="published" if dice.random() < 0.15 else "off",
            times=Times(suspend=dice.uniform(10.0, 40.0), suspend_timeout=dice.uniform(5.0, 25.0)),
        )
        # More than enough for so many deaths; what is left over when they are done does not happen.
        happenings = [_submission(dice, 0.0)]
        while happenings[-1].at < deaths * 200.0:
            happenings.append(_happening(dice, happenings[-1].at + dice.expovariate(1 / _MEAN_GAP)))
        return cls(kind=kind, happenings=tuple(happenings), deaths=deaths)


@dataclass(frozen=True, kw_only=True)
class End:
    """How a daemon ends: by its own `cut`, or by a kill after so many seconds of the world's clock."""

    cut: Cut
    after: float | None


def ends(seed: int) -> Iterator[End]:
    """One for each daemon of a world."""
    dice = random.Random(f"ends {seed}")
    while True:
        draw = dice.random()
        if draw < 0.25:  # at once, in the middle of what its predecessor left
            yield End(cut=Cut(index=dice.randint(1, 6)), after=None)
        elif draw < 0.75:
            yield End(cut=Cut(index=int(dice.expovariate(1 / 60)) + 1), after=None)
        else:
            yield End(cut=Cut(), after=dice.expovariate(1 / 60.0))


def _happening(dice: random.Random, at: float) -> Happening:
    draws = (
        (0.38, _submission),
        (0.22, _launch_fault),
        (0.10, _call_fault),
        (0.07, _bad_machine),
        (0.05, _slurmctld_away),
        (0.05, _cut_off),
        (0.04, _vanishing),
        (0.05, _cancellation),
        (0.04, _release),
    )
    (_, drawn), *_ = dice.choices(draws, [weight for weight, _ in draws])
    return drawn(dice, at)


def _submission(dice: random.Random, at: float) -> Happening:
    user, seconds, batch = dice.choice(USERS), dice.uniform(3.0, 60.0), dice.random() < 0.85
    size = dice.choices((1, 2, 3, 4), (60, 20, 8, 12))[0]
    count = dice.randint(3, 6) if size == 1 and dice.random() < 0.2 else 1  # an array

    def deed(world: World) -> None:
        for _ in range(count):
            world.slurm.submit(user, size=size, seconds=seconds, batch=batch)

    return Happening(at=at, text=f"{count} job(s) of {size} node(s), {seconds:.0f} s, batch={batch}", deed=deed)


def _launch_fault(dice: random.Random, at: float) -> Happening:
    kind = dice.choice(
        ("sold_out", "sold_out", "answer_lost", "answer_lost", "answer_500", "answer_late", "list_lag", "lies_gpu",
         "never_active", "no_address", "ssh_never", "unhealthy", "terminate_refused", "lingers", "vanish")
    )  # fmt: skip
    row: dict[str, object] = {"kind": kind, "path": _LAUNCH, "times": dice.choice((1, 1, 2, 4))}
    if dice.random() < 0.5:
        row["credential"] = dice.choice(CREDENTIALS)
    seconds = {
        "answer_late": (1, 20),
        "list_lag": (2, 18),
        "terminate_refused": (5, 60),
        "lingers": (5, 90),
        "vanish": (5, 120),
    }
    if kind in seconds:
        row["seconds"] = dice.uniform(*seconds[kind])
    if dice.random() < 0.1:
        row = {"kind": "sold_out", "path": _LAUNCH, "times": 12}
    return Happening(at=at, text=f"fault {row}", deed=lambda world: world.fault(row))


def _call_fault(dice: random.Random, at: float) -> Happening:
    row: dict[str, object] = {"kind": dice.choice(_CALLS), "times": dice.choice((1, 2, 5))}
    draw = dice.random()
    if draw < 0.3:
        row["path"] = _LAUNCH
    elif draw < 0.5:
        row["path"] = "/instance-operations/terminate"
    elif draw < 0.55:
        row["kind"] = "unauthorized"
    return Happening(at=at, text=f"fault {row}", deed=lambda world: world.fault(row))


def _bad_machine(dice: random.Random, at: float) -> Happening:
    fault = ("breaks", dice.choice(_STEPS)) if dice.random() < 0.5 else ("cut", str(dice.uniform(5.0, 120.0)))
    return Happening(at=at, text=f"the next machine: {fault}", deed=lambda world: world.machines.faults.append(fault))


def _slurmctld_away(dice: random.Random, at: float) -> Happening:
    seconds, restart = dice.uniform(3.0, 90.0), dice.random() < 0.5
    return Happening(
        at=at,
        text=f"slurmctld is away for {seconds:.0f} s, restart={restart}",
        deed=lambda world: world.slurm.go_away(seconds, restart),
    )


def _cut_off(dice: random.Random, at: float) -> Happening:
    pick, seconds = dice.random(), dice.uniform(3.0, 150.0)
    which = dice.choice(("overlay", "ssh", "both"))

    def deed(world: World) -> None:
        if (machine := _picked(world, pick)) is not None:
            until = world.pace.seconds() + seconds
            if which != "ssh":
                machine.overlay_from = until
            if which != "overlay":
                machine.ssh_from = until

    return Happening(at=at, text=f"a machine is cut off for {seconds:.0f} s: {which}", deed=deed)


def _picked(world: World, pick: float) -> Machine | None:
    on = [machine for machine in list(world.machines.all.values()) if machine.on]
    return on[int(pick * len(on))] if on else None


def _vanishing(dice: random.Random, at: float) -> Happening:
    pick = dice.random()

    def deed(world: World) -> None:
        living = world.cloud.living()
        if living:
            world.cloud.vanish(living[int(pick * len(living))])

    return Happening(at=at, text="a machine vanishes", deed=deed)


def _cancellation(dice: random.Random, at: float) -> Happening:
    pick = dice.random()

    def deed(world: World) -> None:
        over = {"COMPLETED", "CANCELLED", "NODE_FAIL"}
        going: list[SlurmJob] = [job for job in world.slurm.job_table.values() if job.state not in over]
        if going:
            world.slurm.scancel(going[int(pick * len(going))].id)

    return Happening(at=at, text="scancel", deed=deed)


def _release(dice: random.Random, at: float) -> Happening:
    """By the API, as `broker lease release` does. A daemon that is dead, or dies of it, is not asked again."""
    pick = dice.random()

    def deed(world: World) -> None:
        living = [lease for lease in world.watch.ledger() if lease.state in LIVING]
        if not living:
            return
        world.release(living[int(pick * len(living))].id)

    return Happening(at=at, text="an operator releases a lease", deed=deed)
