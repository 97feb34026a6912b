"""Holds the hub's peers against the ledger: every joined machine has its peer, and nobody else has one.

A hub that was restarted has lost its peers; a fence that failed left one behind.
"""

import logging
from collections.abc import Iterable
from functools import partial

from broker.core.leases import HOLDS_NODE, LeaseState
from broker.db import leases, steps
from broker.db.engine import reading
from broker.reconcile.driver import Task
from broker.reconcile.join import LAST_STEP
from broker.reconcile.world import World

# Not `draining`: its fence takes the peer away while the lease still holds the name.
_JOINED = frozenset({LeaseState.BOOTSTRAPPING, LeaseState.READY})

log = logging.getLogger("broker.overlay")


def find(world: World) -> Iterable[Task]:
    """One task."""
    yield Task(key="overlay", run=partial(mend, world))


def mend(world: World) -> None:
    """Set the peers that are missing; remove those whose lease holds no node any more."""
    # A machine that joins meanwhile is in the ledger first, then at the hub, and joined last: so who has joined is read
    # before the peers, and who may have one after them.
    with reading(world.engine) as db:
        started = steps.finished(db, LAST_STEP, _JOINED)
    present = {peer.public_key: peer.address for peer in world.net.peers()}
    with reading(world.engine) as db:
        holding = leases.in_states(db, HOLDS_NODE)
        known = {lease.overlay_key for lease in holding if lease.overlay_key is not None}
    for key in present.keys() - known:
        log.warning("peer=%s address=%s belongs to no living lease: fenced", key, present[key])
        world.net.remove_peer(key)
    for lease in holding:
        if lease.id in started and lease.overlay_key is not None and lease.overlay_key not in present:
            log.warning("lease_id=%s node=%s had no peer at the hub: set again", lease.id, lease.node)
            world.net.set_peer(lease.overlay_key, str(world.site.addresses[lease.node]))
