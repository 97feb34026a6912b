"""Adds runs up, as a whole and by what is asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import polars as pl

from broker.accounting.rates import Rates
from broker.accounting.slices import HELD, JOBS, MONTH, RAN, Window, sliced
from broker.accounting.tres import BILLING, CPUS, GPUS, counts
from broker.catalog.energy import cpu_watts, gpu_watts

NONE = "(none)"
"""The group of what has no GPU, no account, no partition, or no provider that is known."""


class By(StrEnum):
    """What a report is divided by."""

    USER = "user"
    ACCOUNT = "account"
    GPU = "gpu"
    PARTITION = "partition"
    PROVIDER = "provider"
    MONTH = "month"


@dataclass(kw_only=True)
class Seconds:
    """`ran`: the job's own clock; `held`: with the time in which it was suspended and kept what it had."""

    ran: int = 0
    held: int = 0

    def add(self, ran: int, held: int) -> None:
        """More of them."""
        self.ran += ran
        self.held += held


@dataclass(kw_only=True)
class Total:
    """What some runs used. Whole seconds times devices; nothing is rounded."""

    jobs: int = 0
    gpus: dict[str, Seconds] = field(default_factory=dict)
    cpu: Seconds = field(default_factory=Seconds)
    billing: Seconds = field(default_factory=Seconds)

    @property
    def gpu(self) -> Seconds:
        """All types together."""
        return Seconds(
            ran=sum(each.ran for each in self.gpus.values()), held=sum(each.held for each in self.gpus.values())
        )

    @property
    def efficiency(self) -> float | None:
        """The share of the time that GPUs (without any: processors) were held in which their job ran."""
        seconds = self.gpu if self.gpu.held else self.cpu
        return seconds.ran / seconds.held if seconds.held else None

    def cost(self, rates: Rates) -> Decimal | None:
        """Unrounded; None: there is no rate for anything in it."""
        return rates.cost(rates.charged(self.gpus))

    @property
    def kwh(self) -> float:
        """Estimated from board powers: at work while the job ran, idle while it was suspended. Without `unknown_gpus`."""
        joules = 0.0
        for name, each in self.gpus.items():
            if (watts := gpu_watts(name)) is not None:
                joules += watts.load_w * each.ran + watts.idle_w * (each.held - each.ran)
        watts = cpu_watts()
        joules += watts.load_w * self.cpu.ran + watts.idle_w * (self.cpu.held - self.cpu.ran)
        return joules / 3_600_000

    @property
    def unknown_gpus(self) -> list[str]:
        """Types whose power we do not know."""
        return sorted(name for name, each in self.gpus.items() if each.held and gpu_watts(name) is None)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a report says. `unfinished`: runs that are not over, up to when they were exported; in nothing else."""

    total: Total
    groups: Mapping[str, Total]
    unfinished: Total
    states: Mapping[str, int]
    names_gpus: bool
    """At least one run's AllocTRES names a GPU; without it, whether there were any is not known."""
    outside: int
    timeless: int


def add_up(runs: pl.DataFrame, by: By, window: Window) -> Totals:
    """`runs`: the last word on each; with a column `provider` where `by` is that."""
    name = _column(by)
    needed = runs.select(*_NEEDED, *([name] if name is not None and name != MONTH else []))
    slices = sliced(needed.filter(pl.col("is_over")), window=window, by_month=by is By.MONTH)
    living = sliced(needed.filter(~pl.col("is_over")), window=window, by_month=False)
    groups: dict[str, Total] = {}
    total = Total()
    for group, row in _sums(slices.frame, name):
        _add(total, row)
        if by is By.GPU:
            _add_by_type(groups, row)
        else:
            _add(groups.setdefault(group, Total()), row)
    unfinished = Total()
    for _, row in _sums(living.frame, None):
        _add(unfinished, row)
    states = runs.group_by("state").len().sort("len", "state", descending=[True, False])
    return Totals(
        total=total,
        groups=dict(sorted(groups.items(), key=_order(by))),
        unfinished=unfinished,
        states=dict(states.iter_rows()),
        names_gpus=bool((runs[GPUS] != "").any()),
        outside=slices.outside,
        timeless=slices.timeless,
    )


@dataclass(frozen=True, kw_only=True)
class _Sum:
    mix: tuple[tuple[str, int], ...]
    jobs: int
    run: Seconds
    cpu: Seconds
    billing: Seconds


def _column(by: By) -> str | None:
    return None if by is By.GPU else MONTH if by is By.MONTH else by.value


_NEEDED = ("is_over", "submitted", "started", "ended", "elapsed", "suspended", GPUS, CPUS, BILLING)


def _name(value: str | int | None) -> str:
    if isinstance(value, int):
        return f"{value // 100}-{value % 100:02}"
    return value or NONE


def _sums(frame: pl.DataFrame, name: str | None) -> Iterable[tuple[str, _Sum]]:
    """Sums of the runs that have the same GPUs: their GPU-seconds are the mix times the sum."""
    keys = [GPUS] if name is None else [name, GPUS]
    found = frame.group_by(keys).agg(
        pl.col(JOBS, RAN, HELD).sum(),
        *(
            (pl.col(what) * pl.col(clock)).sum().alias(f"{what}_{clock}")
            for what in (CPUS, BILLING)
            for clock in (RAN, HELD)
        ),
    )
    for row in found.sort(keys, nulls_last=False).iter_rows(named=True):
        yield (
            NONE if name is None else _name(row[name]),
            _Sum(
                mix=counts(row[GPUS] or ""),
                jobs=row[JOBS],
                run=Seconds(ran=row[RAN], held=row[HELD]),
                cpu=Seconds(ran=row[f"{CPUS}_{RAN}"], held=row[f"{CPUS}_{HELD}"]),
                billing=Seconds(ran=row[f"{BILLING}_{RAN}"], held=row[f"{BILLING}_{HELD}"]),
            ),
        )


def _add(total: Total, row: _Sum) -> None:
    total.jobs += row.jobs
    total.cpu.add(row.cpu.ran, row.cpu.held)
    total.billing.add(row.billing.ran, row.billing.held)
    for name, count in row.mix:
        total.gpus.setdefault(name, Seconds()).add(count * row.run.ran, count * row.run.held)


def _add_by_type(groups: dict[str, Total], row: _Sum) -> None:
    """A job with two types counts as a job in both; its processors are told with the first of them, once."""
    for place, (name, count) in enumerate(row.mix or ((NONE, 0),)):
        group = groups.setdefault(name, Total())
        group.jobs += row.jobs
        if count:
            group.gpus.setdefault(name, Seconds()).add(count * row.run.ran, count * row.run.held)
        if place == 0:
            group.cpu.add(row.cpu.ran, row.cpu.held)
            group.billing.add(row.billing.ran, row.billing.held)


def _order(by: By) -> Callable[[tuple[str, Total]], tuple[int, int, str]]:
    """Months in their order; else who held most comes first."""
    if by is By.MONTH:
        return lambda entry: (0, 0, entry[0])
    return lambda entry: (-entry[1].gpu.held, -entry[1].cpu.held, entry[0])
