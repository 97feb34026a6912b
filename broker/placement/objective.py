"""Where and when a piece of work should run: the objective of the broker. Pure; the simulator runs exactly this code.

Of the options that are feasible (work fits, signal good enough, budget, cap, risk of being late at most `most_risk`):

    C*   the least money of all, started now                               the floor
    P    { C <= (1 + premium) C* + premium_usd, start <= latest }          the premium set: a promise
    J    = C + lambda G + v n (T - earliest T) + rho m                     money, carbon, time, risk of being late
    choice = argmin J over P; equal J: less carbon, then the earlier start

`v` is a share of the cheapest option's price an hour. With lambda = 0 and premium = 0 that is money first and then
carbon: carbon that costs nothing. Waiting: only where what it gains exceeds `theta` standard errors of the forecast.
An existing plan stays unless the gain exceeds `hysteresis` of what is at stake, which is J above the floor: nearly all
of J is money that no choice can save, so that a share of J itself would freeze every first plan.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from broker.core.demand import Mode
from broker.placement.estimate import Option, Stay, Work, carbon_kg, latest_start_h, risk, stay
from broker.placement.outlook import Outlook, hourly, integral

LAMBDA_MAX = 2.0
"""USD/kg. Above it only the set of options limits the carbon: real spreads between providers flip at 0.5 to 2."""
UNKNOWN_G_PER_KWH = 450.0
"""About the world's average: what an unknown zone counts as where no other is known either."""


@dataclass(frozen=True, kw_only=True)
class Aims:
    """What is wanted of a choice. `aims` makes them from a mode; a job's own wishes replace fields."""

    premium: float = 0.0
    """Share of the floor that may be paid more; infinity: money is no object."""
    premium_usd: float = 0.0
    carbon_usd_per_kg: float = 0.0
    time_value: float = 0.0
    """What an hour of waiting costs a node, as a share of the cheapest option's price an hour."""
    may_wait: bool = True
    needs_signal: bool = False
    """Options of zones whose intensity is unknown are left out."""
    late_usd: float = 0.0
    """rho: what being late for certain would cost."""
    most_risk: float = 0.01
    theta: float = 1.0
    hysteresis: float = 0.03
    tie_share: float = 0.001
    """Choices this close in J and in carbon are equal: which one is drawn, so that not all chase the same hour."""


def aims(mode: Mode, carbon_usd_per_kg: float) -> Aims:
    """What `mode` means, `carbon_usd_per_kg` being the account's shadow price now."""
    match mode:
        case Mode.CHEAP:
            return Aims()
        case Mode.BALANCED:
            return Aims(premium=0.10, carbon_usd_per_kg=carbon_usd_per_kg, time_value=0.05)
        case Mode.GREEN:
            return Aims(premium=0.25, carbon_usd_per_kg=LAMBDA_MAX, time_value=0.01, needs_signal=True)
        case Mode.FAST:
            return Aims(premium=math.inf, time_value=100.0, may_wait=False)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One option from one start on. `objective_usd` is J."""

    option: Option
    start_h: float
    end_h: float
    usd: float
    carbon_kg: float
    risk: float
    objective_usd: float


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The plan that stands: what it would take to leave it is `Aims.hysteresis`."""

    option_id: str
    start_h: float


class Why(StrEnum):
    """The rule that settled the choice."""

    BEST = "best"
    NOT_SURE = "not_sure"
    """Waiting looked better by less than the forecast's error."""
    KEPT = "kept"
    LATE = "late"
    """No start keeps the deadline any more: at once, wherever it ends first."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to do, beside the cheapest option started now; `left_out`: the other options and why."""

    best: Estimate
    cheapest_now: Estimate
    why: Why
    premium_limit_usd: float
    left_out: tuple[tuple[Option, str], ...]

    @property
    def usd_per_kg_avoided(self) -> float | None:
        """What each kilogram costs that this choice emits less than the cheapest now; None: it emits no less."""
        avoided = self.cheapest_now.carbon_kg - self.best.carbon_kg
        return (self.best.usd - self.cheapest_now.usd) / avoided if avoided > 0 else None


def choose(
    work: Work,
    options: Sequence[Option],
    outlooks: Mapping[str, Outlook],
    wanted: Aims,
    starts_h: Sequence[float],
    *,
    kept: Kept | None = None,
    seed: str = "",
) -> Choice | None:
    """The best option and start for `work`; None: no option is feasible.

    `starts_h`: the starts to look at, ascending, the first 0 (now); `outlooks` by zone; `seed` settles equal choices.
    """
    stays, left_out = _feasible(work, options, outlooks, wanted)
    if not stays:
        return None
    latest = {of.option.id: latest_start_h(work, of, wanted.most_risk) for of in stays}
    if in_time := [of for of in stays if latest[of.option.id] >= 0]:
        left_out += [(of.option, "would end after the deadline") for of in stays if latest[of.option.id] < 0]
    late = not in_time
    stays = in_time or stays
    # Made only where it is asked for: most sites know all their zones.
    unknown = _neutral(outlooks) if any(of.option.zone not in outlooks for of in stays) else hourly([UNKNOWN_G_PER_KWH])
    floor = min(each.usd for each in stays)
    unit = min(each.option.usd_per_hour for each in stays) * wanted.time_value * work.nodes
    soonest = min(each.total_h for each in stays)
    limit = floor * (1 + wanted.premium) + wanted.premium_usd

    def rated(of: Stay, start_h: float) -> _Rated:
        carbon = carbon_kg(work, of, outlooks.get(of.option.zone, unknown), start_h)
        value = of.usd + wanted.carbon_usd_per_kg * carbon + unit * (start_h + of.total_h - soonest)
        if work.deadline_h is not None and wanted.late_usd:
            value += wanted.late_usd * risk(of, start_h, work.deadline_h)
        return value, carbon, start_h, of.option.id, of

    now = [rated(of, 0.0) for of in stays]
    cheapest = min(now, key=lambda each: (each[4].usd, each[1], each[3]))
    left_out += [(of.option, "above the premium") for of in stays if of.usd > limit]
    now = [each for each in now if each[4].usd <= limit]

    def settled(best: _Rated, why: Why) -> Choice:
        return Choice(best=_estimate(work, best), cheapest_now=_estimate(work, cheapest), why=why,
                      premium_limit_usd=limit, left_out=tuple(left_out))  # fmt: skip

    if late:
        return settled(
            min(now, key=lambda each: (risk(each[4], 0.0, work.deadline_h), each[4].total_h, each[0])), Why.LATE
        )
    found = list(now)
    if wanted.may_wait:
        for _, _, _, name, of in now:
            found += [rated(of, start) for start in starts_h if 0 < start <= latest[name]]
    best_now = min(now, key=_order)
    best = _drawn(min(found, key=_order), found, wanted.tie_share, f"{seed}/{work.id}")
    why = Why.BEST
    if best[2] > 0 and not _sure(work, best, best_now, outlooks.get(best[4].option.zone, unknown), wanted):
        best, why = best_now, Why.NOT_SURE
    if kept is not None and (kept.option_id, kept.start_h) != (best[3], best[2]):
        stands = next((each[4] for each in now if each[3] == kept.option_id), None)
        if stands is not None and 0 <= kept.start_h <= latest[kept.option_id]:
            old = rated(stands, kept.start_h)
            if old[0] - best[0] <= wanted.hysteresis * max(0.0, old[0] - floor):
                return settled(old, Why.KEPT)
    return settled(best, why)


# J, carbon, start, the option's id, and what does not depend on the start. A job has some hundred of them: no dataclass.
_Rated = tuple[float, float, float, str, Stay]


def _estimate(work: Work, each: _Rated) -> Estimate:
    value, carbon, start, _, of = each
    return Estimate(option=of.option, start_h=start, end_h=start + of.total_h, usd=of.usd, carbon_kg=carbon,
                    risk=risk(of, start, work.deadline_h), objective_usd=value)  # fmt: skip


def _feasible(
    work: Work, options: Sequence[Option], outlooks: Mapping[str, Outlook], wanted: Aims
) -> tuple[list[Stay], list[tuple[Option, str]]]:
    stays: list[Stay] = []
    left_out: list[tuple[Option, str]] = []
    for option in options:
        of = stay(work, option)
        if of is None:
            left_out.append((option, "spot would be interrupted too often for a job without checkpoints"))
        elif wanted.needs_signal and option.zone not in outlooks:
            left_out.append((option, f"carbon intensity of zone {option.zone} is unknown"))
        elif work.budget_usd is not None and of.usd > work.budget_usd:
            left_out.append((option, f"above the job's budget of {work.budget_usd:.2f} USD"))
        elif (
            work.carbon_cap_kg is not None
            and carbon_kg(work, of, outlooks.get(option.zone, _neutral(outlooks)), 0.0) > work.carbon_cap_kg
        ):
            left_out.append((option, f"above the job's cap of {work.carbon_cap_kg:g} kg"))
        else:
            stays.append(of)
    return stays, left_out


def _neutral(outlooks: Mapping[str, Outlook]) -> Outlook:
    """An unknown zone counts as the dirtiest known one: not knowing must never make an option look green."""
    return hourly([max((integral(each, 0, 24) / 24 for each in outlooks.values()), default=UNKNOWN_G_PER_KWH)])


def _order(each: _Rated) -> tuple[float, float, float, str]:
    return each[:4]


def _drawn(best: _Rated, found: Sequence[_Rated], share: float, seed: str) -> _Rated:
    """One of those that are as good as `best`."""
    if share <= 0:
        return best
    most_usd = best[0] + share * abs(best[0])
    most_kg = best[1] + share * abs(best[1])
    equal = [each for each in found if each[0] <= most_usd and each[1] <= most_kg]
    # Whoever may start now at no loss does: waiting gains nothing and risks something.
    if best[2] == 0:
        equal = [each for each in equal if each[2] == 0]
    if len(equal) == 1:
        return best
    return min(equal, key=lambda each: hashlib.blake2b(f"{seed}/{each[3]}/{each[2]:.3f}".encode()).digest())


def _sure(work: Work, later: _Rated, now: _Rated, outlook: Outlook, wanted: Aims) -> bool:
    """Whether waiting gains more than the forecast is usually wrong by."""
    of = later[4]
    error_kg = of.option.pue * work.nodes * work.kw_per_node * of.total_h * outlook.error(later[2]) / 1000
    if wanted.carbon_usd_per_kg > 0:
        return now[0] - later[0] > wanted.theta * wanted.carbon_usd_per_kg * error_kg
    return now[1] - later[1] > wanted.theta * error_kg


def green_enough(current: float, trailing: Sequence[float], quantile: float = 0.3) -> bool:
    """Without any forecast: whether the intensity is within the lowest `quantile` of the last 48 hours."""
    ordered = sorted(trailing)
    return not ordered or current <= ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


def shadow_price(
    price: float, *, used_kg: float, budget_kg: float, elapsed: float, step: float = 0.5, most: float = LAMBDA_MAX
) -> float:
    """The account's carbon price an hour later: up while it emits faster than its monthly budget allows, else down.

    `elapsed`: share of the period that is over. ValueError: there is no budget to keep.
    """
    if budget_kg <= 0:
        raise ValueError("a carbon budget is above 0 kg")
    return min(most, max(0.0, price + step * (used_kg - budget_kg * elapsed) / budget_kg))


def keep_warm(
    *, chance: float, boot_usd: float, time_usd: float, idle_usd: float, idle_kg: float, carbon_usd_per_kg: float
) -> bool:
    """Whether an idle node is kept for another while in which a job comes with probability `chance`."""
    return chance * (boot_usd + time_usd) > idle_usd + carbon_usd_per_kg * idle_kg


def with_wishes(wanted: Aims, *, premium: float | None = None, carbon_usd_per_kg: float | None = None) -> Aims:
    """`wanted`, with what the job itself says."""
    return replace(
        wanted,
        premium=wanted.premium if premium is None else premium,
        carbon_usd_per_kg=wanted.carbon_usd_per_kg if carbon_usd_per_kg is None else carbon_usd_per_kg,
    )
