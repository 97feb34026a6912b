"""What one piece of work would cost, emit and last on one option, from one start on: expectations, no decision.

Hours count from the moment of the plan. Money here is a float: these are expectations, compared and shown, never booked.

    T      = start + boot/(1-f) + in/bandwidth + R            when it ends
    R      = run x X / speed                                  run: its mean
    X      = 1 + c/tau + h (tau/2 + restart + boot)           spot, with checkpoints every tau at the cost of c
           = (e^(hR) - 1)/(hR)                                spot, without; forbidden when hR > 0.3
    C      = n (price + disk) billed(T - start) + n price f/(1-f) billed_failed + in e_in + out e_out
    G      = PUE n kW (idle share of the boot and staging, all of R) x intensity + n embodied + network
    m      = P(T > deadline), boot and run being log-normal, their sum taken as log-normal with the same two moments

Sources: interruption without checkpoints: Daly 2006 (the mean time to finish under a constant hazard), with them: its
first-order form (Young 1974). Sum of log-normals: Fenton 1960. Network 0.001 kWh/GB: Cloud Carbon Footprint. Embodied:
11-18 g a GPU-hour, SCI specification over four years.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from broker.core.offers import CapacityType
from broker.placement.outlook import Outlook

NETWORK_KWH_PER_GB = 0.001
MOST_INTERRUPTIONS = 0.3
"""Expected interruptions of a run without checkpoints above which spot is forbidden: half of the work may be lost."""
WAITING_RISK = 1e-6
"""Probability that a boot takes so long that who has waited for it misses a deadline. Larger: waiting costs deadlines;
smaller: hours of slack are left unused, since the log-normal has a long tail."""
_NORMAL = NormalDist()
_Z90 = _NORMAL.inv_cdf(0.9)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The job saves its state every `interval_h`, which takes it `cost_h`."""

    interval_h: float
    cost_h: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job, or the rest of it. `run_p90_h`: nine in ten such jobs are done by then; equal to `run_h`: it is known.

    `limit_h`: Slurm ends it then, None: nobody does. `deadline_h`, `may_wait_h` count from now.
    """

    id: str
    nodes: int = 1
    run_h: float
    run_p90_h: float
    limit_h: float | None = None
    deadline_h: float | None = None
    may_wait_h: float = 0.0
    kw_per_node: float
    data_in_gb: float = 0.0
    data_out_gb: float = 0.0
    checkpoint: Checkpoint | None = None
    budget_usd: float | None = None
    carbon_cap_kg: float | None = None


@dataclass(frozen=True, kw_only=True)
class Option:
    """An offer as the objective sees it; prices and power are a node's. `fails`: share of boots that come to nothing."""

    id: str
    zone: str
    market: CapacityType = CapacityType.ON_DEMAND
    usd_per_hour: float
    billing_step_h: float = 0.0
    billing_minimum_h: float = 0.0
    boot_p50_h: float = 0.0
    boot_p90_h: float = 0.0
    fails: float = 0.0
    failed_boot_billed_h: float = 0.0
    hazard_per_hour: float = 0.0
    restart_h: float = 0.0
    disk_usd_per_hour: float = 0.0
    usd_per_gb_in: float = 0.0
    usd_per_gb_out: float = 0.0
    gb_per_hour: float = math.inf
    speed: float = 1.0
    pue: float = 1.3
    idle_power: float = 0.2
    """Share of the node's power while it boots and stages."""
    embodied_kg_per_hour: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stay:
    """What does not depend on the start: an option's length and money. `late`: parameters of the end's log-normal."""

    option: Option
    setup_h: float
    run_h: float
    billed_h: float
    usd: float
    late: tuple[float, float] | None
    surely_h: float
    """The end comes no later than that after the start: Slurm ends the job at its limit. Infinite: nobody does."""

    @property
    def total_h(self) -> float:
        return self.setup_h + self.run_h


def stay(work: Work, option: Option) -> Stay | None:
    """Length and money of `work` on `option`; None: too many interruptions to expect."""
    boot, boot_variance = _moments(option.boot_p50_h, option.boot_p90_h)
    run, run_variance = _moments(work.run_h / option.speed, work.run_p90_h / option.speed)
    if work.limit_h is not None:
        run = min(run, work.limit_h)
    stretch = interruption_factor(option, run, boot, work.checkpoint)
    if stretch is None:
        return None
    tries = 1 / (1 - option.fails)
    staging = work.data_in_gb / option.gb_per_hour
    setup = boot * tries + staging
    run, run_variance = run * stretch, run_variance * stretch**2
    # Boots fail independently: the number of tries is geometric.
    setup_variance = boot_variance * tries + boot**2 * option.fails * tries**2
    variance = setup_variance + run_variance
    hours = setup + run
    step = option.billing_step_h
    # A length that is not known ends anywhere in a billing step.
    rounded = hours if not step else math.ceil(hours / step - 1e-9) * step if variance == 0 else hours + step / 2
    paid = max(rounded, option.billing_minimum_h)
    usd = work.nodes * (
        (option.usd_per_hour + option.disk_usd_per_hour) * paid
        + option.usd_per_hour * (tries - 1) * option.failed_boot_billed_h
    )
    usd += work.data_in_gb * option.usd_per_gb_in + work.data_out_gb * option.usd_per_gb_out
    safe = _quantile(setup, setup_variance, 1 - WAITING_RISK)
    return Stay(
        option=option,
        setup_h=setup,
        run_h=run,
        billed_h=paid,
        usd=usd,
        late=_log_normal(hours, variance),
        surely_h=math.inf if work.limit_h is None else safe + work.limit_h,
    )


def interruption_factor(option: Option, run_h: float, boot_h: float, checkpoint: Checkpoint | None) -> float | None:
    """By how much interruptions lengthen a run; None: it would be interrupted too often to be worth starting."""
    hazard = option.hazard_per_hour
    if hazard <= 0:
        return 1.0
    if checkpoint is not None:
        lost = checkpoint.interval_h / 2 + option.restart_h + boot_h
        return 1 + checkpoint.cost_h / checkpoint.interval_h + hazard * lost
    expected = hazard * run_h
    if expected > MOST_INTERRUPTIONS:
        return None
    return math.expm1(expected) / expected if expected else 1.0


def best_interval_h(cost_h: float, hazard_per_hour: float) -> float:
    """How often to save the state: sqrt(2 c / h) (Young 1974); never, where nothing interrupts."""
    return math.sqrt(2 * cost_h / hazard_per_hour) if hazard_per_hour > 0 else math.inf


def hazard(events: float, node_hours: float, prior_per_hour: float, prior_node_hours: float) -> float:
    """Interruptions an hour, seen `events` times in `node_hours`, drawn towards the prior while little was seen."""
    return (prior_per_hour * prior_node_hours + events) / (prior_node_hours + node_hours)


def carbon_kg(work: Work, of: Stay, outlook: Outlook, start_h: float) -> float:
    """What `work` emits when it is started at `start_h`."""
    option, until = of.option, outlook.until
    runs = start_h + of.setup_h
    set_up = until(runs)
    g_hours = until(runs + of.run_h) - set_up
    if of.setup_h:
        g_hours += option.idle_power * (set_up - until(start_h))
    kg = option.pue * work.nodes * work.kw_per_node * g_hours / 1000
    if option.embodied_kg_per_hour:
        kg += work.nodes * option.embodied_kg_per_hour * of.billed_h
    if work.data_in_gb or work.data_out_gb:
        moved_kwh = NETWORK_KWH_PER_GB * (work.data_in_gb + work.data_out_gb)
        kg += moved_kwh * (until(start_h + 1) - until(start_h)) / 1000
    return kg


def risk(of: Stay, start_h: float, deadline_h: float | None) -> float:
    """Probability that the end comes after the deadline."""
    if deadline_h is None:
        return 0.0
    left = deadline_h - start_h
    if left >= of.surely_h:
        return 0.0
    if of.late is None:
        return 0.0 if of.total_h <= left else 1.0
    if left <= 0:
        return 1.0
    mean, deviation = of.late
    return 1 - _NORMAL.cdf((math.log(left) - mean) / deviation)


def latest_start_h(work: Work, of: Stay, most_risk: float) -> float:
    """The last start that keeps the wishes: the delay that is allowed, and the deadline. Below 0: even now is too late.

    Waiting ends where the deadline could only be kept by a job that ends before its time limit: Slurm lets it run until
    then, and whoever waits longer has spent time that was the job's.
    """
    if work.deadline_h is None:
        return work.may_wait_h
    needs = of.total_h if of.late is None else math.exp(of.late[0] + of.late[1] * _NORMAL.inv_cdf(1 - most_risk))
    latest = min(work.may_wait_h, work.deadline_h - min(needs, of.surely_h))
    if work.limit_h is not None and latest > 0:
        latest = min(latest, max(0.0, work.deadline_h - of.surely_h))
    return latest


def _moments(p50: float, p90: float) -> tuple[float, float]:
    """Mean and variance of the log-normal with these two percentiles."""
    if p50 <= 0 or p90 <= p50:
        return max(p50, 0.0), 0.0
    square = (math.log(p90 / p50) / _Z90) ** 2
    mean = p50 * math.exp(square / 2)
    return mean, mean**2 * math.expm1(square)


def _quantile(mean: float, variance: float, share: float) -> float:
    shape = _log_normal(mean, variance)
    return mean if shape is None else math.exp(shape[0] + shape[1] * _NORMAL.inv_cdf(share))


def _log_normal(mean: float, variance: float) -> tuple[float, float] | None:
    if variance <= 0 or mean <= 0:
        return None
    square = math.log1p(variance / mean**2)
    return math.log(mean) - square / 2, math.sqrt(square)
