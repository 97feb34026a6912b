"""Kills the daemon at each effect of a scenario, and judges what became of the world.

    python -m chaos.crash_driver [SCENARIO …] [--mode chain|each|every] [--workers N]

`chain`: one world a scenario, in which every daemon dies at the first effect that none of its predecessors died at.
`each`: one world for each effect (label and phase) that an undisturbed run showed, cut at its first occurrence.
`every`: one world for each effect, repeated ones too.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from chaos.effects import Cut
from chaos.invariants import judge
from chaos.scenarios import SCENARIOS, Scenario
from chaos.world import World
from chaos.zygote import Zygote, die_with_parent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`wrong`: sentences; empty: all was as it must be. `recoveries`: seconds of the world's clock, one a death.

    `folder`: the daemon's log, its ledger and its effects; kept when something was wrong.
    """

    name: str
    deaths: int
    effects: int
    seconds: float
    wrong: list[str]
    recoveries: list[float]
    labels: frozenset[tuple[str, str]]
    died_at: frozenset[tuple[str, str]]
    folder: Path


def undisturbed(scenario: Scenario, zygote: Zygote) -> Outcome:
    """Nobody dies."""
    return _run(scenario.name, scenario, zygote, Cut(), lambda world: Cut())


def one_death(scenario: Scenario, zygote: Zygote, cut: Cut) -> Outcome:
    """The first daemon dies at `cut`, the next one lives."""
    where = f"effect {cut.index}" if cut.index is not None else f"{cut.phase} {cut.label}"
    return _run(f"{scenario.name}, {where}", scenario, zygote, cut, lambda world: Cut())


def chain(scenario: Scenario, zygote: Zygote) -> Outcome:
    """Every daemon dies at the first effect that none before it died at, until there is none."""

    def next_cut(world: World) -> Cut:
        died = frozenset((effect.label, effect.phase) for effect in world.effects() if effect.died)
        return Cut(spared=died)

    kind = scenario.kind
    if scenario.patient:
        # With dozens of deaths on the way a machine must be allowed to take its time.
        kind = replace(kind, times=replace(kind.times, resume_timeout=20_000), boot_timeout=1_000)
    patient = replace(scenario, kind=kind, limit=20_000)
    return _run(f"{scenario.name}, chain", patient, zygote, Cut(spared=frozenset()), next_cut)


def _run(name: str, scenario: Scenario, zygote: Zygote, first: Cut, next_cut: Callable[[World], Cut]) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    world = World(folder, zygote, scenario.kind)
    began = world.pace.seconds()
    wrong = []
    try:
        scenario.begin(world)
        world.start(first)
        if not world.wait(lambda: _is_over(world, scenario), scenario.limit, next_cut):
            wrong.append(f"lost: not at rest after {scenario.limit:.0f} s")
        wrong += judge(world).sentences() + scenario.check(world)
        effects = world.effects()
        outcome = Outcome(
            name=name,
            deaths=len(world.deaths),
            effects=len(effects),
            seconds=world.pace.seconds() - began,
            wrong=wrong,
            recoveries=[debt.settled_at - debt.at for debt in world.watch.debts if debt.settled_at is not None],
            labels=frozenset((effect.label, effect.phase) for effect in effects),
            died_at=frozenset((effect.label, effect.phase) for effect in effects if effect.died),
            folder=folder,
        )
    finally:
        world.close()
    if not wrong:
        shutil.rmtree(folder)
    return outcome


def _is_over(world: World, scenario: Scenario) -> bool:
    scenario.act(world)
    return scenario.over(world) and world.is_quiet()


def cuts(scenario: Scenario, zygote: Zygote, repeated: bool) -> list[Cut]:
    """Where an undisturbed run can be cut."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    world = World(folder, zygote, scenario.kind)
    try:
        scenario.begin(world)
        world.start()
        world.wait(lambda: _is_over(world, scenario), scenario.limit)
        effects = world.effects()
    finally:
        world.close()
        shutil.rmtree(folder)
    if repeated:
        return [Cut(index=effect.index) for effect in effects]
    return [Cut(label=label, phase=phase) for label, phase in dict.fromkeys((e.label, e.phase) for e in effects)]


_zygote: Zygote | None = None


def own_zygote() -> Zygote:
    global _zygote  # noqa: PLW0603  (one a worker process)
    if _zygote is None:
        _zygote = Zygote()
    return _zygote


def _work(task: tuple[str, Cut | None]) -> Outcome:
    name, cut = task
    scenario = SCENARIOS[name]
    return chain(scenario, own_zygote()) if cut is None else one_death(scenario, own_zygote(), cut)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--mode", choices=("chain", "each", "every"), default="chain")
    parser.add_argument("--workers", type=int, default=2)
    wanted = parser.parse_args(argv)
    began = time.monotonic()
    tasks: list[tuple[str, Cut | None]] = []
    if unknown := set(wanted.scenario) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    for name in wanted.scenario or SCENARIOS:
        if wanted.mode == "chain":
            tasks.append((name, None))
        else:
            tasks += [(name, cut) for cut in cuts(SCENARIOS[name], own_zygote(), wanted.mode == "every")]
    outcomes = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(wanted.workers, mp_context=spawn, initializer=die_with_parent) as pool:
        for outcome in pool.map(_work, tasks):
            outcomes.append(outcome)
            _say(outcome)
    _sum_up(outcomes, time.monotonic() - began)
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _say(outcome: Outcome) -> None:
    word = "WRONG" if outcome.wrong else "ok"
    say(f"{word:5} {outcome.name}: {outcome.deaths} deaths, {outcome.seconds:.0f} s")
    for sentence in outcome.wrong:
        say(f"      {sentence}")
    if outcome.wrong:
        say(f"      see {outcome.folder}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _sum_up(outcomes: Iterable[Outcome], took: float) -> None:
    outcomes = list(outcomes)
    deaths = sum(outcome.deaths for outcome in outcomes)
    bad = sum(bool(outcome.wrong) for outcome in outcomes)
    say(f"{len(outcomes)} worlds, {deaths} deaths, {bad} worlds with something wrong, {took:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
