"""The policies of world `gaia`: when a job starts, given the intensities and the mean length of its queue.

All of them look ahead in the true intensities, as the published ones do: this world compares policies, not forecasts.
"""

from broker.simulate.gaia import HOUR, Carbon, Job, Piece, Policy

LOOK_AHEAD_HOURS = 24
"""Ecovisor's threshold is the quantile of as many hours to come."""


def no_wait(job: Job, carbon: Carbon) -> list[Piece]:
    """At once."""
    return [(job.arrival, job.length)]


def all_wait(job: Job, carbon: Carbon) -> list[Piece]:
    """As late as it may."""
    return [(job.arrival + job.wait, job.length)]


def lowest_slot(job: Job, carbon: Carbon) -> list[Piece]:
    """At the first tick of the greenest hour."""
    best = at = job.arrival
    hour = job.arrival // HOUR
    while at <= job.arrival + job.wait:
        if carbon.values[at // HOUR] < carbon.values[best // HOUR]:
            best = at
        hour += 1
        at = hour * HOUR
    return [(best, job.length)]


def lowest_window(job: Job, carbon: Carbon) -> list[Piece]:
    """Where a job of its queue's mean length would emit least, whole hours after its arrival being tried."""
    emitted = _candidates(job, carbon)
    return [(job.arrival + emitted.index(min(emitted)) * HOUR, job.length)]


def carbon_time(job: Job, carbon: Carbon) -> list[Piece]:
    """Where a job of mean length would save most for each hour until its end."""
    emitted = _candidates(job, carbon)
    at_once = emitted[0]
    # One job of the queue's mean length and the queue is not empty, so the divisor is above 0.
    gains = [(at_once - each) / (hours * HOUR + job.expected) for hours, each in enumerate(emitted)]
    return [(job.arrival + gains.index(max(gains)) * HOUR, job.length)]


def _candidates(job: Job, carbon: Carbon) -> list[int]:
    """What a job of mean length emits from each start that is tried; only the first where the others do not fit."""
    last = min(job.wait, carbon.end - job.arrival - job.expected)
    if last < HOUR:
        return [0]
    start, until = job.arrival, carbon.until
    return [until(at + job.expected) - until(at) for at in range(start, start + last + 1, HOUR)]


def wait_awhile(job: Job, carbon: Carbon) -> list[Piece]:
    """Suspended and resumed: the greenest ticks between its arrival and its latest end, the earlier of equal ones."""
    stretches = [
        (carbon.values[start // HOUR], start, length)
        for start, length in _by_hour(job.arrival, job.arrival + job.length + job.wait)
    ]
    taken: list[Piece] = []
    left = job.length
    for _, start, length in sorted(stretches):
        taken.append((start, min(length, left)))
        left -= taken[-1][1]
        if not left:
            break
    return _merged(sorted(taken))


def ecovisor(job: Job, carbon: Carbon) -> list[Piece]:
    """Suspended while the intensity is not below the 30 % quantile of the next day, until it may wait no longer."""
    tenfold = _threshold_tenfold(job.arrival, carbon)
    taken: list[Piece] = []
    left, wait = job.length, job.wait
    for start, length in _by_hour(job.arrival, job.arrival + job.length + job.wait):
        green = carbon.values[start // HOUR] * 10 < tenfold
        waited = 0 if green else min(wait, length)
        wait -= waited
        if length > waited:
            taken.append((start + waited, min(length - waited, left)))
            left -= taken[-1][1]
            if not left:
                break
    return _merged(taken)


def _threshold_tenfold(tick: int, carbon: Carbon) -> int:
    """Ten times the 30 % quantile over ticks, between two of them in proportion (numpy's `linear`)."""
    end = min(tick + LOOK_AHEAD_HOURS * HOUR, carbon.end)
    place, tenths = divmod(3 * (end - tick - 1), 10)
    counted = sorted((carbon.values[start // HOUR], length) for start, length in _by_hour(tick, end))
    low, high = _at_rank(counted, place), _at_rank(counted, place + 1)
    return low * 10 + (high - low) * tenths


def _at_rank(counted: list[tuple[int, int]], rank: int) -> int:
    for value, count in counted:
        if rank < count:
            return value
        rank -= count
    return counted[-1][0]


def _by_hour(start: int, end: int) -> list[Piece]:
    """The ticks from `start` to before `end`, cut at the hours."""
    pieces: list[Piece] = []
    while start < end:
        following = min((start // HOUR + 1) * HOUR, end)
        pieces.append((start, following - start))
        start = following
    return pieces


def _merged(pieces: list[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for start, length in pieces:
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            merged.append((start, length))
    return merged


POLICIES = {
    policy.name: policy
    for policy in (
        Policy(name="no-wait", plan=no_wait),
        Policy(name="lowest-slot", plan=lowest_slot),
        Policy(name="lowest-window", plan=lowest_window),
        Policy(name="carbon-time", plan=carbon_time),
        Policy(name="ecovisor", plan=ecovisor),
        Policy(name="wait-awhile", plan=wait_awhile),
        Policy(name="all-wait", plan=all_wait, reserved_first=True),
        Policy(name="res-first-carbon-time", plan=carbon_time, reserved_first=True),
        Policy(name="spot-first-carbon-time", plan=carbon_time, spot=True),
        Policy(name="spot-res-carbon-time", plan=carbon_time, reserved_first=True, spot=True),
    )
}
