"""World `gaia` once more, slowly: every tick is looked at, every sum is added up, queues are queues.

Shares no code with broker/simulate, so that the two can be held against each other.
"""

import heapq
import math
from dataclasses import dataclass, field

TICK, HOUR, SHORT = 5, 720, 1440
PRICE, SPOT_PRICE, RESERVED = 0.0624, 0.01248, 0.4


@dataclass(order=True)
class Queued:
    arrival: int
    job: dict = field(compare=False)
    start: int = field(compare=False)
    length: int = field(compare=False)


def replay(rows, grams, policy, reserved, wait_hours):
    """`rows`: (arrival s, length s, devices); `grams`: g/kWh by hour. Returns kg, USD and the starts of all pieces."""
    ticks = [value for value in grams for _ in range(HOUR)]
    lengths = [length / TICK for _, length, _ in rows]
    short = [length for length in lengths if length <= SHORT]
    long = [length for length in lengths if length >= SHORT]
    jobs = []
    for (arrival, _, devices), length in zip(rows, lengths, strict=True):
        in_short = int(length) < SHORT
        jobs.append(
            {
                "arrival": int(arrival / TICK),
                "length": int(length),
                "devices": devices,
                "wait": int(wait_hours[0 if in_short else 1] * HOUR),
                "expected": int(sum(short) / len(short)) if in_short else int(sum(long) / len(long)),
                "short": length <= SHORT,
            }
        )
    eager = policy in {"all-wait", "res-first-carbon-time", "spot-res-carbon-time"}
    spot = policy in {"spot-first-carbon-time", "spot-res-carbon-time"}
    queue, free, release = [], reserved, {}
    total = dollars = last = 0
    starts = []
    for now in range(len(ticks)):
        for job in jobs:
            if job["arrival"] == now:
                for start, length in pieces(policy, job, ticks):
                    heapq.heappush(queue, Queued(now, job, start, length))
        kept = []
        while queue:
            piece = heapq.heappop(queue)
            job = piece.job
            goes = now >= piece.start
            if not goes and eager and not (spot and job["short"]):
                goes = free >= job["devices"]
            if not goes:
                heapq.heappush(kept, piece)
                continue
            total += math.fsum(ticks[now : now + piece.length]) * job["devices"]
            last = max(last, now)
            starts.append((now, piece.length, job["devices"]))
            if spot and job["short"]:
                dollars += job["devices"] * piece.length * SPOT_PRICE / HOUR
            elif free >= job["devices"]:
                free -= job["devices"]
                release[now + piece.length] = release.get(now + piece.length, 0) + job["devices"]
            else:
                dollars += job["devices"] * piece.length * PRICE / HOUR
        queue = kept
        free += release.pop(now, 0)
    dollars += reserved * RESERVED * last * PRICE / HOUR
    return total / 1000 / HOUR, dollars, sorted(starts)


def pieces(policy, job, ticks):
    arrival, length, wait = job["arrival"], job["length"], job["wait"]
    if policy == "no-wait":
        return [(arrival, length)]
    if policy == "all-wait":
        return [(arrival + wait, length)]
    if policy == "lowest-slot":
        return [(min(range(arrival, arrival + wait + 1), key=lambda tick: ticks[tick]), length)]
    if policy in {"wait-awhile", "ecovisor"}:
        return runs(chosen(policy, job, ticks))
    tried = range(0, wait + 1, HOUR)
    grams = {off: math.fsum(ticks[arrival + off : arrival + off + job["expected"]]) for off in tried}
    if policy == "lowest-window":
        return [(arrival + min(tried, key=lambda off: round(grams[off], 6)), length)]
    gain = {off: (grams[0] - grams[off]) / (off + job["expected"]) for off in tried}
    return [(arrival + max(tried, key=lambda off: round(gain[off], 9)), length)]


def chosen(policy, job, ticks):
    span = range(job["arrival"], job["arrival"] + job["length"] + job["wait"])
    if policy == "wait-awhile":
        return sorted(sorted(span, key=lambda tick: (ticks[tick], tick))[: job["length"]])
    day = sorted(ticks[job["arrival"] : job["arrival"] + 24 * HOUR])
    place = 0.3 * (len(day) - 1)
    low, high = day[int(place)], day[min(int(place) + 1, len(day) - 1)]
    threshold = low + (high - low) * (place - int(place))
    taken, wait = [], job["wait"]
    for tick in span:
        if len(taken) == job["length"]:
            break
        if ticks[tick] < threshold or wait == 0:
            taken.append(tick)
        else:
            wait -= 1
    return taken


def runs(taken):
    found = []
    for tick in taken:
        if found and sum(found[-1]) == tick:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((tick, 1))
    return found
