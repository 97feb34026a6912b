"""How long until the next create is sent when an offer is refused: one node, and a place after the other sold out."""

import itertools

from measure import Result
from sqlalchemy import Engine
from unhosted import unhosted, until

from broker.core.leases import LeaseState
from broker.db import leases
from broker.db.engine import reading


def results(n: int) -> list[Result]:
    """One lease walks through `n` places that are sold out; the next one has a machine."""
    regions = {f"region-{number:02}": 5 for number in range(n + 1)}
    faults = [{"kind": "sold_out", "times": n}]
    with unhosted(1, regions, faults, cheapest="gpu_1x_h100_pcie") as world:
        world.wake(["h100-1"], "h100-1")
        until(lambda: _is_ready(world.app.engine), 120)
        with reading(world.app.engine) as db:
            attempts = leases.of_node(db, "h100-1")
            histories = leases.histories(db, [lease.id for lease in attempts])
    result = Result(what="offer refused → next create sent")
    for before, after in itertools.pairwise(attempts):
        refused = next(e.at for e in histories[before.id] if e.became is LeaseState.RELEASED)
        sent = next(e.at for e in histories[after.id] if e.became is LeaseState.LAUNCHING)
        result.samples.append((sent - refused).total_seconds())
    return [result]


def _is_ready(engine: Engine) -> bool:
    with reading(engine) as db:
        return bool(leases.in_states(db, [LeaseState.READY]))
