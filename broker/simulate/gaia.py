"""World `gaia`: the simulation of "Going Green for Less Green" (ASPLOS'24), so that its published table can be met.

Every constant of that world stands here; source: github.com/umassos/GAIA at 62a5efc, `src/` (MIT). Ours is event
driven: it looks only at the ticks at which something happens, theirs at every tick. Intensities are whole numbers
(1e-9 g/kWh), so that sums are exact and equal windows are equal: then the earlier one is taken.

Where theirs would stop with an error, near the end of the intensities, ours starts the job as late as still fits.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from broker.simulate.intensity import Intensity
from broker.simulate.outcome import Outcome, spread
from broker.simulate.trace import Trace, Unreadable

TICK_S = 5
HOUR = 3600 // TICK_S
"""Ticks an hour."""
WINDOW_HOURS = 720
"""How much of the intensities the simulation sees; what does not end in it is left out."""
KW_PER_DEVICE = 1
ON_DEMAND_USD_PER_HOUR = 0.0624
SPOT_USD_PER_HOUR = 0.01248
RESERVED_RATE = 0.4
"""Reserved devices cost this share of the on-demand price, busy or not, until the last job has started."""
SHORT = 2 * HOUR
"""Jobs below wait in the short queue; jobs up to it, both ends included, may run on spot."""

_SCALE = 10**9
_G_PER_KG = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """In ticks. `order`: by arrival, then by line; `wait`: how much later it may start; `expected`: its queue's mean."""

    order: int
    arrival: int
    length: int
    devices: int
    wait: int
    expected: int
    spot: bool


class Carbon:
    """Intensity over ticks. `values[h]` holds for the ticks of hour h."""

    def __init__(self, values: Sequence[int]) -> None:
        self.values = values
        self.end = len(values) * HOUR
        self._before = [0, *accumulate(value * HOUR for value in values)]

    def until(self, tick: int) -> int:
        """The sum over all ticks before `tick`."""
        hour, rest = divmod(tick, HOUR)
        return self._before[hour] + (rest * self.values[hour] if rest else 0)

    def over(self, start: int, length: int) -> int:
        """The sum over `length` ticks from `start`."""
        return self.until(start + length) - self.until(start)


Piece = tuple[int, int]
"""Start and length, in ticks."""
Planner = Callable[[Job, Carbon], list[Piece]]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When a job runs if nothing else starts it, and what it may run on."""

    name: str
    plan: Planner
    reserved_first: bool = False
    """A waiting job starts at once when reserved devices are free for it."""
    spot: bool = False
    """Short jobs run on spot and never on reserved devices."""


def replay(trace: Trace, intensity: Intensity, policy: Policy, reserved: int, wait_hours: tuple[float, float],
           window_hours: int = WINDOW_HOURS) -> Outcome:  # fmt: skip
    """Run `trace` under `policy` from the first hour of `intensity`, `wait_hours` being the limits of both queues.

    Unreadable: no job ends within the window.
    """
    values = [round(value * _SCALE) for value in intensity.g_per_kwh[:window_hours]]
    carbon = Carbon(values)
    jobs, left_out = _jobs(trace, wait_hours, carbon.end)
    if not jobs:
        said = "; ".join(f"{reason} ({count})" for reason, count in left_out.items())
        raise Unreadable(f"no job fits in the {len(values)} hours of intensities: {said}")
    run = _Run(carbon, policy, reserved)
    run.all(jobs)
    reserved_usd = reserved * RESERVED_RATE * run.last_start / HOUR * ON_DEMAND_USD_PER_HOUR
    on_demand_usd = run.on_demand_ticks / HOUR * ON_DEMAND_USD_PER_HOUR
    spot_usd = run.spot_ticks / HOUR * SPOT_USD_PER_HOUR
    at_once = sum(carbon.over(job.arrival, job.length) * job.devices for job in jobs)
    waits = [(end - job.arrival - job.length) / HOUR for job, end in zip(jobs, run.ends, strict=True)]
    return Outcome(
        world="gaia",
        policy=policy.name,
        jobs=len(jobs),
        left_out=dict(left_out),
        carbon_kg=run.carbon * KW_PER_DEVICE / (_SCALE * HOUR * _G_PER_KG),
        normalized_carbon=run.carbon / at_once if at_once else 1.0,
        cost_usd=on_demand_usd + spot_usd + reserved_usd,
        cost_by={"on_demand": on_demand_usd, "spot": spot_usd, "reserved": reserved_usd},
        device_hours=sum(job.length * job.devices for job in jobs) / HOUR,
        mean_wait_h=run.waited_ticks / run.pieces / HOUR,
        wait_h=spread(waits),
        slowdown=spread(
            [
                max(1.0, (wait * HOUR + job.length) / max(job.length, 600 // TICK_S))
                for job, wait in zip(jobs, waits, strict=True)
            ]
        ),
    )


def _jobs(trace: Trace, wait_hours: tuple[float, float], end: int) -> tuple[list[Job], Counter[str]]:
    lengths = [job.length_s / TICK_S for job in trace.jobs]
    # Jobs of exactly two hours count in both means.
    short = [length for length in lengths if length <= SHORT]
    long = [length for length in lengths if length >= SHORT]
    means = (int(sum(short) / len(short)) if short else 0, int(sum(long) / len(long)) if long else 0)
    jobs: list[Job] = []
    left_out: Counter[str] = Counter()
    for job, length in zip(trace.jobs, lengths, strict=True):
        arrival, ticks = int(job.submitted_s / TICK_S), int(length)
        if ticks < 1:
            left_out[f"shorter than a tick of {TICK_S} s"] += 1
        elif arrival >= end:
            left_out["arrives after the last hour of the window"] += 1
        elif arrival + ticks > end:
            left_out["would end after the last hour of the window"] += 1
        else:
            queue = 0 if ticks < SHORT else 1
            jobs.append(
                Job(
                    order=len(jobs),
                    arrival=arrival,
                    length=ticks,
                    devices=job.devices,
                    wait=min(int(wait_hours[queue] * HOUR), end - arrival - ticks),
                    expected=means[queue],
                    spot=length <= SHORT,
                )
            )
    return jobs, left_out


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A piece of a job in the queue. `priority` is an object of its own for each piece: see `_popped`."""

    job: Job
    start: int
    length: int
    eager: bool
    priority: float


class _Run:
    """One replay: who waits, what is free, what it has come to so far."""

    def __init__(self, carbon: Carbon, policy: Policy, reserved: int) -> None:
        self._of, self._policy, self._free = carbon, policy, reserved
        self._any_reserved = reserved > 0
        self._releases: list[tuple[int, int]] = []  # the tick of the end, devices: a heap
        self.carbon = self.on_demand_ticks = self.spot_ticks = self.last_start = 0
        self.waited_ticks = self.pieces = 0
        self.ends: list[int] = []

    def all(self, jobs: Sequence[Job]) -> None:
        """Let every job run, in the order in which things happen."""
        self.ends = [0] * len(jobs)
        if not self._any_reserved:  # then nobody's start depends on anybody else
            for job in jobs:
                for piece in self._pieces(job):
                    self._start(piece, piece.start)
            return
        queue: list[_Waiting] = []
        starts: list[int] = []  # a heap of ticks at which a piece is due
        arriving, last = 0, 0
        while arriving < len(jobs) or queue:
            now = self._next(jobs[arriving].arrival if arriving < len(jobs) else None, starts, queue)
            if _has_ties(queue):
                queue = _popped_again(queue, now - last - 1)
            while arriving < len(jobs) and jobs[arriving].arrival == now:
                pieces = self._pieces(jobs[arriving])
                queue.extend(pieces)
                for piece in pieces:
                    heapq.heappush(starts, piece.start)
                arriving += 1
            while starts and starts[0] <= now:
                heapq.heappop(starts)
            # Devices are given back after the starts of a tick: they serve from the next one on.
            while self._releases and self._releases[0][0] < now:
                self._free += heapq.heappop(self._releases)[1]
            queue = self._pass(_popped(queue) if _has_ties(queue) else queue, now)
            last = now

    def _pieces(self, job: Job) -> list[_Waiting]:
        eager = self._policy.reserved_first and not (self._policy.spot and job.spot)
        planned = self._policy.plan(job, self._of)
        return [_Waiting(job, start, length, eager, float(job.arrival)) for start, length in planned]

    def _next(self, arrival: int | None, starts: list[int], queue: list[_Waiting]) -> int:
        ticks = [] if arrival is None else [arrival]
        if starts:
            ticks.append(starts[0])
        if self._policy.reserved_first and queue and self._releases:
            ticks.append(self._releases[0][0] + 1)
        return min(ticks)

    def _pass(self, queue: list[_Waiting], now: int) -> list[_Waiting]:
        """Start what is due, and what reserved devices are free for; the rest."""
        rest: list[_Waiting] = []
        for piece in queue:
            if piece.start <= now or (piece.eager and piece.job.devices <= self._free):
                self._start(piece, now)
            else:
                rest.append(piece)
        return rest

    def _start(self, piece: _Waiting, now: int) -> None:
        job, length = piece.job, piece.length
        self.carbon += self._of.over(now, length) * job.devices
        self.last_start = max(self.last_start, now)
        self.ends[job.order] = max(self.ends[job.order], now + length)
        self.waited_ticks += now - job.arrival
        self.pieces += 1
        if self._policy.spot and job.spot:
            self.spot_ticks += job.devices * length
        elif self._any_reserved and self._free >= job.devices:
            self._free -= job.devices
            heapq.heappush(self._releases, (now + length, job.devices))
        else:
            self.on_demand_ticks += job.devices * length


def _has_ties(queue: Sequence[_Waiting]) -> bool:
    return any(one.priority == two.priority for one, two in pairwise(queue))


def _popped(queue: list[_Waiting]) -> list[_Waiting]:
    """`queue` in the order in which a heap gives it up that compares arrivals only.

    The published simulation empties its queue into another one at every tick, and what arrived in one tick changes
    places as heaps do. Who comes first gets the reserved devices, so the published costs hang on it. A heap of
    distinct float objects does the same: equal ones are told apart by who they are.
    """
    by_id = {id(piece.priority): piece for piece in queue}
    heap = [piece.priority for piece in queue]  # in order already, which is a heap
    return [by_id[id(heapq.heappop(heap))] for _ in queue]


def _popped_again(queue: list[_Waiting], times: int) -> list[_Waiting]:
    """`_popped`, `times` times over: nobody comes or goes meanwhile, so that each pass changes the same places."""
    if times <= 0:
        return queue
    place = {id(piece): index for index, piece in enumerate(queue)}
    source = [place[id(piece)] for piece in _popped(queue)]
    result = list(queue)
    seen = [False] * len(queue)
    for first in range(len(queue)):
        cycle = []
        at = first
        while not seen[at]:
            seen[at] = True
            cycle.append(at)
            at = source[at]
        for step, place_in_cycle in enumerate(cycle):
            result[place_in_cycle] = queue[cycle[(step + times) % len(cycle)]]
    return result
