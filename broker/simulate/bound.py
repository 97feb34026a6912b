"""What no policy can do better: the offline optimum of world `site`, by linear programming (HiGHS; extra `sim`).

A job starts when it is submitted or on any full hour within its wait, on any offer in its premium set. With capacities:

    min sum J[j,o,s] x[j,o,s]    sum over o,s of x[j,o,s] = 1 for each job j
                                 sum over j,s of devices x overlap(j,o,s,h) x[j,o,s] <= devices of o in hour h
    x >= 0                       relaxed: the bound;   x in {0, 1}: the optimum, for a few hundred jobs

Boots take their median and none fails: a bound for replays in which they do so, too. Without capacities the optimum
separates, and enumeration is exact.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.core.errors import BrokerError
from broker.placement.estimate import Option, Work, carbon_kg, latest_start_h, stay
from broker.placement.objective import Aims
from broker.simulate.deciders import starts
from broker.simulate.outcome import Outcome
from broker.simulate.signals import Signals
from broker.simulate.site_file import Site
from broker.simulate.site_world import option_of


class NoSolver(BrokerError):
    """The extra `sim` is not installed, or HiGHS found no optimum."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """`usd`: the least sum of J; `integral`: by 0/1 variables, else by fractions of jobs."""

    usd: float
    variables: int
    rows: int
    seconds: float
    integral: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to run one job. `hours`: (offer, hour, device-hours in it)."""

    job: int
    usd: float
    hours: tuple[tuple[int, int, float], ...]


def value(outcome: Outcome, works: Sequence[tuple[Work, float]], site: Site, wanted: Aims) -> float:
    """The sum of J that a replay came to: money, carbon at its price, and time beyond the soonest end."""
    total = outcome.cost_usd + wanted.carbon_usd_per_kg * outcome.carbon_kg
    for (work, submitted), result in zip(works, outcome.results, strict=True):
        unit, soonest = _time(work, submitted, site, wanted)
        total += unit * (result.run_h + result.wait_h - soonest)
    return total


def separable(works: Sequence[tuple[Work, float]], site: Site, signals: Signals, wanted: Aims) -> Bound:
    """The optimum without capacities: each job by itself, all its ways enumerated."""
    began = time.perf_counter()
    ways = _ways(works, site, signals, wanted)
    least: dict[int, float] = {}
    for way in ways:
        least[way.job] = min(way.usd, least.get(way.job, way.usd))
    return Bound(
        usd=sum(least.values()), variables=len(ways), rows=0, seconds=time.perf_counter() - began, integral=True
    )


def bound(
    works: Sequence[tuple[Work, float]], site: Site, signals: Signals, wanted: Aims, *, integral: bool = False,
    gap: float = 1e-3,
) -> Bound:  # fmt: skip
    """The optimum with capacities, relaxed or, with `integral`, in whole jobs to within `gap`. NoSolver: see there."""
    try:
        import numpy as np  # noqa: PLC0415  # of the extra `sim`
        from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415
        from scipy.sparse import csr_array  # noqa: PLC0415
    except ImportError as exc:
        raise NoSolver("the offline optimum needs scipy: pip install 'broker[sim]'") from exc
    began = time.perf_counter()
    ways = _ways(works, site, signals, wanted)
    rows: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, float]] = [(way.job, column, 1.0) for column, way in enumerate(ways)]
    for column, way in enumerate(ways):
        for offer, hour, device_hours in way.hours:
            row = rows.setdefault((offer, hour), len(works) + len(rows))
            entries.append((row, column, device_hours))
    supplies = [offer.supply for offer in site.offers]
    most = [supplies[offer].at(hour + 0.5)[1] for offer, hour in rows]
    at, columns, values = (list(part) for part in zip(*entries, strict=True))
    matrix = csr_array((values, (at, columns)), shape=(len(works) + len(rows), len(ways)))
    lower = np.array([1.0] * len(works) + [-np.inf] * len(rows))
    upper = np.array([1.0] * len(works) + most)
    solved = milp(
        np.array([way.usd for way in ways]),
        constraints=LinearConstraint(matrix, lower, upper),
        bounds=Bounds(0, 1),
        integrality=np.full(len(ways), int(integral)),
        options={"mip_rel_gap": gap, "time_limit": 300.0},
    )
    if solved.x is None:
        raise NoSolver(f"HiGHS found no optimum: {solved.message}")
    return Bound(
        usd=float(solved.fun),
        variables=len(ways),
        rows=len(rows),
        seconds=time.perf_counter() - began,
        integral=integral,
    )


def _ways(works: Sequence[tuple[Work, float]], site: Site, signals: Signals, wanted: Aims) -> list[_Way]:
    ways: list[_Way] = []
    for number, (work, submitted) in enumerate(works):
        unit, soonest = _time(work, submitted, site, wanted)
        offered = _options(submitted, site)
        stays = [stay(work, option) for _, option in offered]
        floor = min(of.usd for of in stays if of is not None)
        for (place, option), of in zip(offered, stays, strict=True):
            if of is None or of.usd > floor * (1 + wanted.premium) + wanted.premium_usd:
                continue
            latest = max(0.0, latest_start_h(work, of, wanted.most_risk)) if wanted.may_wait else 0.0
            truth = signals.truth[option.zone].later(submitted)
            for start in starts(submitted - int(submitted), latest):
                usd = (
                    of.usd
                    + wanted.carbon_usd_per_kg * carbon_kg(work, of, truth, start)
                    + unit * (start + of.total_h - soonest)
                )
                ways.append(_Way(number, usd, _hours(place, submitted + start, of.total_h, work.nodes)))
    return ways


def _time(work: Work, submitted: float, site: Site, wanted: Aims) -> tuple[float, float]:
    """What an hour is worth to `work`, and its soonest end."""
    stays = [of for of in (stay(work, option) for _, option in _options(submitted, site)) if of is not None]
    if not stays:
        raise NoSolver(f"job {work.id}: nothing is offered when it is submitted")
    unit = min(of.option.usd_per_hour for of in stays) * wanted.time_value * work.nodes
    return unit, min(of.total_h for of in stays)


def _options(now: float, site: Site) -> list[tuple[int, Option]]:
    return [
        (place, option_of(offer, offer.supply.at(now)[0], site.idle_power))
        for place, offer in enumerate(site.offers)
        if offer.supply.at(now)[1] > 0
    ]


def _hours(place: int, start: float, length: float, devices: int) -> tuple[tuple[int, int, float], ...]:
    end, found, at = start + length, [], start
    while at < end - 1e-9:
        following = min(float(int(at + 1e-9) + 1), end)
        found.append((place, int(at + 1e-9), (following - at) * devices))
        at = following
    return tuple(found)


def sure(site: Site) -> Site:
    """`site` with every boot taking its median and none failing: the world of the bound."""
    return replace(site, offers=tuple(replace(offer, boot_p90_h=offer.boot_p50_h, fails=0.0) for offer in site.offers))
