"""The nodes of one job speak to one another directly: the hub hands nothing on between rented machines.

In one credential and zone they use the provider's own network. Elsewhere (Slurm may mix nodes that were up already) they
meet over the internet: both sides call, so that a firewall that lets answers in lets them through.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

from broker.core.errors import BrokerError, NodeUnreachable, StepFailed
from broker.core.leases import Lease
from broker.db import steps
from broker.db.engine import reading
from broker.provisioning.base import Step
from broker.provisioning.steps import Peer, met_step, peer_step
from broker.reconcile.nodes import open_node
from broker.reconcile.world import World

log = logging.getLogger("broker.peers")

# Each worker waits for one SSH connection; more only fill the controller's memory.
_AT_ONCE = 16


class Untold(BrokerError):
    """A machine could not be told of the others, or asked whether it has met them."""

    def __init__(self, lease: Lease, cause: BrokerError) -> None:
        super().__init__(f"{lease.node} cannot be introduced to the job's other machines: {cause}")
        self.lease = lease


def introduce(world: World, job_id: int, leases: Sequence[Lease]) -> list[str]:
    """Make each machine a peer of the others; the pairs that cannot meet, `NODE and NODE`.

    Untold: one of them could not be told. Safe to repeat.
    """
    with reading(world.engine) as db:
        overlay = {lease.id: steps.of_lease(db, lease.id)["overlay"] for lease in leases}
    reached = [lease for lease in leases if overlay[lease.id].get("listen_port", "0") != "0"]
    peers = {
        lease.id: [_peer(world.site.addresses, lease, other, overlay[other.id]) for other in reached if other != lease]
        for lease in leases
    }
    hosts = {lease.node: str(world.site.addresses[lease.node]) for lease in leases}

    def ask(lease: Lease, step: Step) -> Mapping[str, str]:
        try:
            with open_node(world, lease) as shell:
                return shell.run(step).outputs
        except (NodeUnreachable, StepFailed) as exc:
            raise Untold(lease, exc) from exc

    def tell(lease: Lease) -> None:
        ask(lease, peer_step(peers[lease.id], hosts))

    def met(lease: Lease) -> set[str]:
        return set(ask(lease, met_step(peers[lease.id])).get("met", "").split())

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        list(pool.map(tell, leases))
        keys = {lease.id: overlay[lease.id]["public_key"] for lease in leases}
        strangers = _strangers(leases, keys, dict(zip(keys, pool.map(met, leases), strict=True)))
    log.info("job=%s nodes=%s pairs that cannot meet=%s", job_id, len(leases), len(strangers))
    return strangers


def _peer(addresses: Mapping[str, IPv4Address], lease: Lease, other: Lease, overlay: Mapping[str, str]) -> Peer:
    """`other` as `lease` reaches it."""
    near = (lease.provider, lease.zone) == (other.provider, other.zone) and lease.private_address is not None
    host = (other.private_address if near else None) or other.address
    return Peer(
        public_key=overlay["public_key"],
        address=addresses[other.node],
        endpoint=f"{host}:{overlay['listen_port']}",
    )


def _strangers(leases: Sequence[Lease], keys: Mapping[str, str], met: Mapping[str, set[str]]) -> list[str]:
    """A pair has met when both sides say so."""
    return [
        f"{one.node} and {other.node}"
        for number, one in enumerate(leases)
        for other in leases[number + 1 :]
        if keys[other.id] not in met[one.id] or keys[one.id] not in met[other.id]
    ]
