"""Times rows beside their baselines: everything in one shuffled order, so that a busy minute falls on all alike."""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Timed = Callable[[], float]
"""Does the thing once and returns its seconds; what it needs before and after is not counted."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing to measure, `n` times, beside another that is as small as it can be."""

    what: str
    run: Timed
    baseline: str
    against: Timed
    n: int = 100


@dataclass(kw_only=True)
class Result:
    """Samples in seconds. `against` empty: there is nothing honest to hold the row against."""

    what: str
    samples: list[float] = field(default_factory=list)
    baseline: str = ""
    against: list[float] = field(default_factory=list)

    def facts(self) -> dict[str, object]:
        """For JSON: milliseconds, and the ratio of the medians."""
        low, high = quantile(self.samples, 0.5), quantile(self.samples, 0.99)
        base = quantile(self.against, 0.5) if self.against else None
        return {
            "what": self.what,
            "n": len(self.samples),
            "p50_ms": round(low * 1000, 3),
            "p99_ms": round(high * 1000, 3),
            "baseline": self.baseline or None,
            "baseline_n": len(self.against),
            "baseline_p50_ms": round(base * 1000, 3) if base is not None else None,
            "ratio": round(low / base, 2) if base else None,
        }


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that is no time of many: a memory, a count. `against`: what it is held to, in words."""

    what: str
    value: float
    unit: str
    against: str = ""

    def facts(self) -> dict[str, object]:
        """For JSON."""
        value = round(self.value, 1) if self.value >= 10 else round(self.value, 3)
        return {"what": self.what, "value": value, "unit": self.unit, "against": self.against}


def measure(rows: Sequence[Row], seed: int) -> list[Result]:
    """Every row and every baseline as often as wanted, in one random order. Baselines of one name are shared."""
    results = [Result(what=row.what, baseline=row.baseline) for row in rows]
    baselines: dict[str, list[float]] = {row.baseline: [] for row in rows}
    turns: list[tuple[Timed, list[float]]] = []
    for row, result in zip(rows, results, strict=True):
        row.run()  # once, uncounted: what comes from the disk comes now
        turns += [(row.run, result.samples)] * row.n
    for name, samples in baselines.items():
        first = next(row for row in rows if row.baseline == name)
        first.against()
        turns += [(first.against, samples)] * first.n
    random.Random(seed).shuffle(turns)
    for run, samples in turns:
        samples.append(run())
    for result in results:
        result.against = baselines[result.baseline]
    return results


def quantile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that at least `part` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * int(part * 100) // 100) - 1)]


def program(argv: Sequence[str], environment: Mapping[str, str] | None = None, expect: int = 0) -> float:
    """Seconds from the start of `argv` to its end, its output thrown away. RuntimeError: it ended otherwise."""
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], list(argv), dict(environment or {}), file_actions=streams)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != expect:
        raise RuntimeError(f"{' '.join(argv)[:200]} ended with {os.waitstatus_to_exitcode(status)}, not {expect}")
    return seconds
