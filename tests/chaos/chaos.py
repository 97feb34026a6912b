"""`make chaos N=1000`: daemons that die at random while users, providers and the network do what they do.

    python -m chaos.chaos [--crashes N] [--seed SEED] [--per-world D] [--workers W] [--speed S] [--json FILE]

Worlds of D deaths each, one after another in W processes, until N daemons have died. World number i has the seed SEED + i;
`--seed THAT --crashes D` runs it alone. Exit status 1: something leaked, was doubled, or was lost.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from chaos.crash_driver import own_zygote, say
from chaos.effects import Cut
from chaos.invariants import Verdict, judge, too_many_resumes
from chaos.story import Happening, Story, ends
from chaos.world import SPEED, World
from chaos.zygote import die_with_parent

_PEACE = 12_000.0
"""Seconds of the world's clock to come to rest: a credential whose quota was full is left alone for an hour."""
_LIVES = Cut()


@dataclass(frozen=True, kw_only=True)
class Result:
    """One world's. `recoveries`: seconds of the world's clock from a death until all was in hand again."""

    seed: int
    deaths: int
    died_in: Counter[str]
    jobs: Counter[str]
    machines: int
    charged: float
    seconds: float
    verdict: Verdict
    recoveries: list[float]
    undisturbed: list[float]
    """Those of them in which no further daemon died."""
    folder: Path
    notes: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        return self.verdict.sentences() + self.notes


def run_world(seed: int, deaths: int, speed: float) -> Result:
    """Play the story of `seed` until `deaths` daemons have died, then leave the world in peace, and judge it."""
    story = Story.of_seed(seed, deaths, speed)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    world = World(folder, own_zygote(), story.kind)
    began = world.pace.seconds()
    notes: list[str] = []
    try:
        with (folder / "story.log").open("w") as diary:
            _play(world, story, seed, diary.write)
        world.cloud.faults = []
        world.machines.faults = []
        if not world.wait(lambda: _in_peace(world), _PEACE):
            notes.append(f"lost: not at rest {_PEACE:.0f} s after the last death")
        verdict = judge(world)
        if open_debts := sum(debt.settled_at is None for debt in world.watch.debts):
            notes.append(f"lost: after {open_debts} deaths things never were in hand again")
        notes += [f"lost: {text}" for text in too_many_resumes(world)]
        result = Result(
            seed=seed,
            deaths=len(world.deaths),
            died_in=Counter(effect.label.partition(":")[0] for effect in world.effects() if effect.died),
            jobs=Counter(job.state for job in world.slurm.job_table.values()),
            machines=len(world.cloud.bill()),
            charged=float(sum(float(row["amount"]) for row in world.cloud.bill())),
            seconds=world.pace.seconds() - began,
            verdict=verdict,
            recoveries=[debt.settled_at - debt.at for debt in world.watch.debts if debt.settled_at is not None],
            undisturbed=_undisturbed(world),
            notes=notes,
            folder=folder,
        )
    finally:
        world.close()
    if not result.wrong():
        shutil.rmtree(folder)
    return result


def _undisturbed(world: World) -> list[float]:
    return [
        debt.settled_at - debt.at
        for debt in world.watch.debts
        if debt.settled_at is not None and not any(debt.at < death <= debt.settled_at for death in world.deaths)
    ]


def _play(world: World, story: Story, seed: int, write: Callable[[str], object]) -> None:
    began = world.pace.seconds()
    to_come: list[Happening] = list(reversed(story.happenings))
    how = ends(seed)
    end = next(how)
    world.start(end.cut)
    while len(world.deaths) < story.deaths:
        if world.failure is not None:
            raise world.failure
        now = world.pace.seconds()
        if to_come and now - began >= to_come[-1].at:
            happening = to_come.pop()
            write(f"{world.pace.now():%H:%M:%S} {happening.text}\n")
            happening.deed(world)
        if world.pid is not None and end.after is not None and now - world.started_at > end.after:
            write(f"{world.pace.now():%H:%M:%S} kill -9 after {end.after:.0f} s\n")
            world.kill()
        if not world.is_alive():
            end = next(how)
            write(f"{world.pace.now():%H:%M:%S} death {len(world.deaths)}; the next one ends by {end}\n")
            if len(world.deaths) < story.deaths:
                world.start(end.cut)
        time.sleep(0.01)


def _in_peace(world: World) -> bool:
    world.operator_hurries()
    return world.is_quiet()


def _run(task: tuple[int, int, float]) -> Result:
    return run_world(*task)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crashes", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--per-world", type=int, default=25, metavar="D")
    parser.add_argument("--workers", type=int, default=4, metavar="W", help="worlds at a time; they mostly wait")
    parser.add_argument("--speed", type=float, default=SPEED, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, for programs")
    wanted = parser.parse_args(argv)
    seed = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(1, 10**6)
    worlds, rest = divmod(wanted.crashes, wanted.per_world)
    sizes = [wanted.per_world] * worlds + ([rest] if rest else [])
    say(
        f"chaos: {wanted.crashes} crashes in {len(sizes)} worlds, seed {seed}, {wanted.speed:g} × the wall clock's pace"
    )
    began = time.monotonic()
    results: list[Result] = []
    tasks = [(seed + number, size, wanted.speed) for number, size in enumerate(sizes)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(wanted.workers, mp_context=spawn, initializer=die_with_parent) as pool:
        for result in pool.map(_run, tasks):
            results.append(result)
            _progress(result, sum(each.deaths for each in results), wanted.crashes)
    took = time.monotonic() - began
    _table(results, seed, took)
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(_figures(results, seed, took), indent=1) + "\n")
    return 1 if any(result.wrong() for result in results) else 0


def _progress(result: Result, deaths: int, wanted: int) -> None:
    word = "WRONG" if result.wrong() else "ok"
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(result.jobs.items()))
    say(f"{word:5} seed {result.seed}: {result.deaths} deaths, {result.machines} machines, jobs: {states}"
        f"  [{deaths}/{wanted}]")  # fmt: skip
    for sentence in result.wrong():
        say(f"      {sentence}")
    if result.wrong():
        say(f"      again: make chaos N={result.deaths} SEED={result.seed}; its log, ledger and story: {result.folder}")


def _figures(results: Sequence[Result], seed: int, took: float) -> dict[str, object]:
    jobs: Counter[str] = sum((result.jobs for result in results), Counter())
    died_in: Counter[str] = sum((result.died_in for result in results), Counter())
    deaths = sum(result.deaths for result in results)
    return {
        "schema_version": 1,
        "seed": seed,
        "crashes": deaths,
        "worlds": len(results),
        "jobs": dict(sorted(jobs.items())),
        "machines_bought": sum(result.machines for result in results),
        "billed_usd": round(sum(result.charged for result in results), 2),
        "leaked": sum(len(result.verdict.leaked) for result in results),
        "doubled": sum(len(result.verdict.doubled) for result in results),
        "lost": sum(len(result.verdict.lost) + len(result.notes) for result in results),
        "recovery_seconds": _spread([value for result in results for value in result.recoveries]),
        "recovery_seconds_undisturbed": _spread([value for result in results for value in result.undisturbed]),
        "died_in": dict(died_in.most_common()) | {"any moment": deaths - sum(died_in.values())},
        "world_hours": round(sum(result.seconds for result in results) / 3600, 1),
        "wall_seconds": round(took),
        "failing_seeds": [result.seed for result in results if result.wrong()],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {
        "count": len(values),
        "p50": round(ordered[len(ordered) // 2], 1),
        "p95": round(ordered[int(len(ordered) * 0.95)], 1),
        "max": round(ordered[-1], 1),
    }


def _table(results: Sequence[Result], seed: int, took: float) -> None:
    say("")
    for name, value in _figures(results, seed, took).items():
        shown = ", ".join(f"{key.lower()} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        say(f"{name.replace('_', ' '):30} {shown}")
    say(
        "Recovery, in seconds of the worlds' clock: from a death until a successor serves, has taken every wish that lay"
    )
    say("there, has settled every purchase that was under way, and has every machine that costs money in its ledger.")
    say("Undisturbed: no further daemon died meanwhile.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
