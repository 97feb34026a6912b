"""A burst: N nodes asked for at once. What is our own work and memory for each lease, without hosts (`unhosted.py`)?

`python tests/bench/thousand.py [-n 1000]`, or `make burst N=1000`.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

from measure import Figure
from sqlalchemy import Engine
from unhosted import Unhosted, unhosted, until

from broker.core.leases import LeaseState
from broker.db import leases
from broker.db.engine import reading


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000)
    nodes = parser.parse_args().n
    with unhosted(nodes, {"us-east-1": nodes, "us-west-1": nodes}) as world:
        print(json.dumps(burst(world, nodes), indent=1))  # noqa: T201


def burst(world: Unhosted, nodes: int) -> dict[str, float]:
    """Wake `nodes` nodes at once, wait until all are ready, then have them all suspended."""
    engine, folded = world.app.engine, f"h100-[1-{nodes}]"
    names = [f"h100-{number}" for number in range(1, nodes + 1)]
    before, cpu, began = _rss_kib(), _cpu(), time.monotonic()
    world.wake(names, folded)
    until(lambda: _count(engine, LeaseState.READY) == nodes)
    up, up_cpu, up_rss = time.monotonic() - began, _cpu() - cpu, _rss_kib() - before
    sent = _sent_after(engine)
    time.sleep(10.0)
    idle_cpu = (_cpu() - cpu - up_cpu) / 10.0
    cpu, began = _cpu(), time.monotonic()
    world.suspend(names, folded)
    until(lambda: _count(engine, LeaseState.RELEASED) == nodes)
    down, down_cpu = time.monotonic() - began, _cpu() - cpu
    return {
        "leases": nodes,
        "all_ready_s": round(up, 2),
        "cpu_ms_per_lease_to_ready": round(up_cpu / nodes * 1000, 2),
        "create_sent_after_s_p50": round(sent[len(sent) // 2], 2),
        "create_sent_after_s_max": round(sent[-1], 2),
        "memory_kib_per_lease": round(up_rss / nodes, 1),
        "idle_cpu_cores": round(idle_cpu, 3),
        "all_released_s": round(down, 2),
        "cpu_ms_per_lease_to_released": round(down_cpu / nodes * 1000, 2),
        "load": os.getloadavg()[0],
    }


def figures(burst: dict[str, float]) -> list[Figure]:
    """The rows of `make bench`."""
    what, ready = f"{burst['leases']} leases at once", burst["cpu_ms_per_lease_to_ready"]
    return [
        Figure(what=f"{what}: our processor a lease until ready", value=ready, unit="ms", against="< 20"),
        Figure(what=f"{what}: our processor a lease until released", value=burst["cpu_ms_per_lease_to_released"], unit="ms"),
        Figure(what=f"{what}: our memory a lease", value=burst["memory_kib_per_lease"], unit="KiB"),
        Figure(what=f"{what}: asked → create sent, median", value=burst["create_sent_after_s_p50"], unit="s"),
        Figure(what=f"{what}: asked → all ready", value=burst["all_ready_s"], unit="s"),
        Figure(what=f"{what}: our processor while all are ready", value=burst["idle_cpu_cores"], unit="cores"),
    ]  # fmt: skip


def _sent_after(engine: Engine) -> list[float]:
    """Seconds from Slurm's call to each create, sorted."""
    with reading(engine) as db:
        found = []
        for lease in leases.all_leases(db):
            sent = next(e.at for e in leases.events(db, lease.id) if e.became is LeaseState.LAUNCHING)
            found.append((sent - lease.requested_at).total_seconds())
    return sorted(found)


def _count(engine: Engine, state: LeaseState) -> int:
    with reading(engine) as db:
        return len(leases.in_states(db, [state]))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss_kib() -> float:
    return float(
        next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS")).split()[1]
    )


if __name__ == "__main__":
    main()
