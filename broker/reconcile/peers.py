"""The nodes of one job speak to one another directly, over their provider's own network, not through the hub."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from broker.core.leases import Lease
from broker.db import steps
from broker.db.engine import reading
from broker.provisioning.steps import Peer, met_step, peer_step
from broker.reconcile.nodes import open_node
from broker.reconcile.world import World

log = logging.getLogger("broker.peers")

# Each worker waits for one SSH connection; more only fill the controller's memory.
_AT_ONCE = 16


def introduce(world: World, job_id: int, leases: Sequence[Lease]) -> None:
    """Make each machine a peer of the others; a pair that cannot meet goes on over the hub.

    NodeUnreachable, StepFailed: a machine could not be told; safe to repeat.
    """
    peers = _peers(world, leases)
    hosts = {lease.node: str(world.site.addresses[lease.node]) for lease in leases}
    wanted = {
        lease.id: [key for other, key in peers.items() if other != lease.id and _near(lease, leases, other)]
        for lease in leases
        if lease.id in peers
    }
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        # Every machine learns the others' names, also one that cannot be spoken to directly.
        list(pool.map(lambda lease: _tell(world, lease, wanted.get(lease.id, []), hosts), leases))
        among = [lease for lease in leases if lease.id in peers]
        met = dict(
            zip((lease.id for lease in among), pool.map(lambda x: _met(world, x, wanted[x.id]), among), strict=True)
        )
        direct = _mutual(wanted, peers, met)
        # One side alone would send where the other no longer listens.
        failed = [lease for lease in among if len(direct[lease.id]) < len(wanted[lease.id])]
        list(pool.map(lambda lease: _tell(world, lease, direct[lease.id], hosts), failed))
    pairs = sum(len(keys) for keys in direct.values()) // 2
    log.info("job=%s nodes=%s pairs speak directly=%s of %s", job_id, len(leases), pairs, _pairs(len(leases)))


def _peers(world: World, leases: Sequence[Lease]) -> dict[str, Peer]:
    """Lease id → how the others reach it. A machine of which we know no port or address is left out."""
    found = {}
    with reading(world.engine) as db:
        for lease in leases:
            overlay = steps.of_lease(db, lease.id).get("overlay", {})
            address, port = lease.private_address or lease.address, overlay.get("listen_port")
            if address and port and port != "0":
                found[lease.id] = Peer(
                    public_key=overlay["public_key"],
                    address=world.site.addresses[lease.node],
                    endpoint=f"{address}:{port}",
                )
    return found


def _near(lease: Lease, leases: Sequence[Lease], other_id: str) -> bool:
    other = next(each for each in leases if each.id == other_id)
    return (lease.provider, lease.zone) == (other.provider, other.zone)


def _tell(world: World, lease: Lease, peers: Sequence[Peer], hosts: Mapping[str, str]) -> None:
    with open_node(world, lease) as shell:
        shell.run(peer_step(peers, hosts))


def _met(world: World, lease: Lease, peers: Sequence[Peer]) -> set[str]:
    if not peers:
        return set()
    with open_node(world, lease) as shell:
        return set(shell.run(met_step(peers)).outputs.get("met", "").split())


def _mutual(
    wanted: Mapping[str, Sequence[Peer]], peers: Mapping[str, Peer], met: Mapping[str, set[str]]
) -> dict[str, list[Peer]]:
    """Lease id → those of its peers that it met and that met it."""
    lease_of = {peer.public_key: lease_id for lease_id, peer in peers.items()}
    return {
        lease_id: [
            peer
            for peer in those
            if peer.public_key in met[lease_id] and peers[lease_id].public_key in met[lease_of[peer.public_key]]
        ]
        for lease_id, those in wanted.items()
    }


def _pairs(nodes: int) -> int:
    return nodes * (nodes - 1) // 2
