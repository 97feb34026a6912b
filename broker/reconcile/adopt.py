"""A restored ledger against the world: machines it does not know are taken in by their label, what is gone is ended.

Run by `broker ledger restore` while no daemon works. The backup is older than the world: leases were bought, joined and
ended since. `survey` asks providers, hub, Slurm and the machines, and changes nothing; `settle` writes its verdicts.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address

from sqlalchemy import Connection

from broker.core.demand import Job
from broker.core.errors import BrokerError, InstanceNotFound, NodeUnreachable, StepFailed
from broker.core.leases import HOLDS_NODE, LIVING, Lease, LeaseState, epoch_of_label, lease_of_label
from broker.core.nodes import Node
from broker.core.offers import Instance, InstanceState, Offer
from broker.core.usage import UsageEvent, UsageKind
from broker.db import jobs, leases, offers, steps, usage
from broker.privileged.client import Export, Peer
from broker.providers.base import Provider
from broker.provisioning.run import run_step
from broker.provisioning.steps import join_steps
from broker.reconcile.join import LAST_STEP
from broker.reconcile.nodes import open_node
from broker.reconcile.world import World

log = logging.getLogger("broker.adopt")

S = LeaseState
_SETTLED = frozenset({S.READY, S.PARKED, S.DRAINING, S.RELEASING})
"""What the backup says of these still holds, or the daemon finds out by itself."""
_STARTED = frozenset({"RUNNING", "SUSPENDED", "COMPLETING", "STOPPED"})
_SSH_PORT = 22  # inside the overlay no provider maps ports
_UNKNOWN = "unknown"

ScanHostKey = Callable[[str, int], str]
"""Address and port → the ed25519 host key that answers there. NodeUnreachable."""


class Fate(StrEnum):
    KEPT = "kept"
    ADOPTED = "adopted"
    ENDED = "ended"
    DROPPED = "dropped"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of one lease: `lease` is how it shall stand. `homes`: (job, user) whose home is on the machine."""

    lease: Lease
    fate: Fate
    reason: str
    started: UsageEvent | None = None
    steps: Mapping[str, dict[str, str]] = field(default_factory=dict)
    """Bootstrap steps whose outputs were found out."""
    homes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Survey:
    """`strays`: exported homes that no running job uses any more."""

    verdicts: tuple[Verdict, ...]
    strays: tuple[Export, ...]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A machine that is a working node: its host key, and what its bootstrap steps put out."""

    host_key: str
    steps: Mapping[str, dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Facts:
    peers: list[Peer]
    nodes: Mapping[str, Node]
    jobs: list[Job]
    exports: list[Export]
    offers: list[Offer]


def survey(world: World, db: Connection, taken_at: datetime, scan: ScanHostKey) -> Survey:
    """Judge every lease of the restored ledger `db`, and every machine with our label.

    ProviderError, SlurmUnavailable, BrokerError: somebody does not answer, and without them nothing can be judged.
    """
    now = world.clock()
    known = {lease.id: lease for lease in leases.all_leases(db)}
    facts = _Facts(
        peers=world.net.peers(),
        nodes={node.name: node for node in world.slurm.nodes()},
        jobs=world.slurm.jobs(),
        exports=world.as_user.exports(),
        offers=offers.current(db),
    )
    verdicts: dict[str, Verdict] = {}
    seen: dict[str, set[str]] = {}
    for provider in world.providers.values():
        rows = provider.instances()
        seen[provider.name] = {row.id for row in rows}
        for instance in rows:
            lease_id = lease_of_label(world.site.cluster, instance.label)
            if lease_id is None or instance.state is InstanceState.STOPPING:
                continue
            verdict = _machine(world, facts, provider, instance, known.get(lease_id), lease_id, taken_at, scan, now)
            if verdict is not None:
                verdicts[lease_id] = verdict
    for lease in known.values():
        if lease.id not in verdicts and lease.state in LIVING:
            verdicts[lease.id] = _without_machine(world, lease, seen, now)
    settled = _one_holder_a_node(list(verdicts.values()), now)
    return _with_homes(settled, facts)


def settle(db: Connection, verdicts: Iterable[Verdict], now: datetime) -> None:
    """Write the verdicts into the restored ledger, in the transaction that restored it."""
    # Those that let their node name go come first: a name has one holder.
    for verdict in sorted(verdicts, key=lambda each: each.lease.state in HOLDS_NODE):
        lease = verdict.lease
        if verdict.fate is not Fate.KEPT:
            leases.put_back(db, lease, f"restored from a backup: {verdict.reason}", now)
        for name, outputs in verdict.steps.items():
            steps.record(db, lease.id, name, outputs, 0.0, now)
        if verdict.started is not None:
            usage.record(db, verdict.started)
        written = {job.job_id for job in jobs.open_jobs(db) if job.lease_id == lease.id}
        for job_id, user in verdict.homes:
            if job_id not in written:
                jobs.attend(db, job_id, lease.id, user, now)
                jobs.mounted(db, job_id, lease.id, now)


def _machine(
    world: World,
    facts: _Facts,
    provider: Provider,
    instance: Instance,
    lease: Lease | None,
    lease_id: str,
    taken_at: datetime,
    scan: ScanHostKey,
    now: datetime,
) -> Verdict | None:
    """The fate of a living machine with our label; None: the daemon's sweep ends it, its lease had ended before."""
    if lease is not None and lease.state is S.RELEASED:
        return None
    if lease is not None and lease.state in _SETTLED and lease.instance_id == instance.id:
        return Verdict(lease=lease, fate=Fate.KEPT, reason="its machine lives")
    stands = _as_bought(provider, instance, lease, lease_id, taken_at, facts.offers)
    started = _started(stands, lease.state_since if lease and lease.label else taken_at, now)
    peer = _peer_of(world, facts, instance)
    if isinstance(peer, str):
        found: _Found | str = peer
    else:
        node = next(name for name, address in world.site.addresses.items() if str(address) == peer.address)
        stands = replace(stands, node=node, shape=_shape_of(world, node), overlay_key=peer.public_key)
        found = _as_node(world, facts, stands, peer, scan)
    if isinstance(found, _Found):
        ready = replace(
            stands,
            state=S.READY,
            state_since=now,
            host_key=found.host_key,
            job_id=next((job.id for job in facts.jobs if job.state in _STARTED and stands.node in job.nodes), None),
            reason="adopted by its label",
        )
        reason = f"instance {instance.id} adopted by its label as {stands.node}"
        return Verdict(lease=ready, fate=Fate.ADOPTED, reason=reason, started=started, steps=found.steps)
    if lease is not None and lease.state in {S.LAUNCHING, S.BOOTSTRAPPING}:
        # Bought before the backup and not a node yet: the daemon goes on where it stopped, or gives it up in time.
        return Verdict(lease=lease, fate=Fate.KEPT, reason=f"its machine is not a node yet ({found})")
    reason = f"instance {instance.id} cannot be adopted: {found}"
    ended = replace(stands, state=S.RELEASING, state_since=now, reason=reason)
    return Verdict(lease=ended, fate=Fate.ENDED, reason=reason, started=started)


def _as_bought(
    provider: Provider,
    instance: Instance,
    lease: Lease | None,
    lease_id: str,
    taken_at: datetime,
    on_sale: list[Offer],
) -> Lease:
    """The lease as the purchase would have left it, from what the provider shows."""
    offer = next(
        (
            offer
            for offer in on_sale
            if (offer.provider, offer.instance_type, offer.zone)
            == (provider.name, instance.instance_type, instance.zone)
            and instance.capacity_type in {None, offer.capacity_type}
        ),
        None,
    )
    before = lease or Lease(
        id=lease_id,
        node=_UNKNOWN,
        shape=_UNKNOWN,
        state=S.REQUESTED,
        state_since=taken_at,
        version=0,
        # The time of the backup: it was bought later, and what Slurm asked before that concerns another machine.
        created_at=taken_at,
        requested_at=taken_at,
        deadline=taken_at,
        request_id=f"restored-{lease_id}",
        attempt=1,
        epoch=epoch_of_label(instance.label),
    )
    return replace(
        before,
        version=before.version + 1,
        not_before=None,
        provider=provider.name,
        offer_id=offer.id if offer else before.offer_id,
        instance_type=instance.instance_type or before.instance_type,
        zone=instance.zone or before.zone,
        price_per_hour=instance.price_per_hour or (offer.price_per_hour if offer else before.price_per_hour),
        currency=before.currency or (offer.currency if offer else "USD"),
        label=instance.label,
        instance_id=instance.id,
        capacity_type=instance.capacity_type or (offer.capacity_type if offer else before.capacity_type),
        machine=instance.machine or (offer.machine if offer else before.machine),
        address=instance.address,
        ssh_port=instance.ssh_port,
        private_address=instance.private_address,
    )


def _started(lease: Lease, not_before: datetime, now: datetime) -> UsageEvent | None:
    if lease.price_per_hour is None or lease.currency is None:
        return None
    return UsageEvent(
        lease_id=lease.id,
        kind=UsageKind.START,
        not_before=not_before,
        not_after=now,
        price_per_hour=lease.price_per_hour,
        currency=lease.currency,
    )


def _peer_of(world: World, facts: _Facts, instance: Instance) -> Peer | str:
    """The hub's peer that speaks from the machine's address, or why there is none."""
    if instance.address is None:
        return "it has no address yet"
    ours = {str(address) for address in world.site.addresses.values()}
    found = [
        peer
        for peer in facts.peers
        if peer.address in ours and peer.endpoint is not None and _host(peer.endpoint) == instance.address
    ]
    if len(found) != 1:
        return f"{len(found) or 'none'} of the hub's peers speaks from its address {instance.address}"
    return found[0]


def _as_node(world: World, facts: _Facts, lease: Lease, peer: Peer, scan: ScanHostKey) -> _Found | str:
    """The keys of a machine that works as a node, or why it does not."""
    node = facts.nodes.get(lease.node)
    if node is None or not node.is_up:
        return f"{lease.node}, whose peer it is, is not up in Slurm"
    try:
        # Over the overlay: whoever answers at this address holds the peer's key, so the host key is the machine's own.
        host_key = scan(str(peer.address), _SSH_PORT)
        pinned = replace(lease, host_key=host_key)
        step = next(step for step in join_steps(world.join_plan(pinned)) if step.name == "home_key")
        with open_node(world, pinned) as shell:
            home = run_step(shell, step)
    except (NodeUnreachable, StepFailed) as exc:
        return str(exc)
    # Where the hub hears it is where its job's other nodes reach it.
    overlay = {"public_key": peer.public_key, "listen_port": (peer.endpoint or "").rpartition(":")[2]}
    return _Found(host_key=host_key, steps={"overlay": overlay, "home_key": home, LAST_STEP: {}})


def _without_machine(world: World, lease: Lease, seen: Mapping[str, set[str]], now: datetime) -> Verdict:
    """The fate of a living lease whose label no provider shows."""
    if lease.state is S.REQUESTED:
        # It may have been bought since, and its machine not be visible yet. Slurm asks again under a new lease's label;
        # should the machine appear, it is an orphan. Buying under the old label could give it two machines.
        reason = "it waited for its purchase; Slurm asks again"
        dropped = replace(lease, state=S.RELEASED, state_since=now, version=lease.version + 1, not_before=None)
        return Verdict(lease=replace(dropped, reason=reason), fate=Fate.DROPPED, reason=reason)
    provider = world.provider_of(lease)
    if provider is None:
        reason = f"credential {lease.provider} is gone from the configuration: put it back"
        return Verdict(lease=lease, fate=Fate.KEPT, reason=reason)
    if lease.instance_id is None or lease.state is S.RELEASING:
        return Verdict(lease=lease, fate=Fate.KEPT, reason="the daemon looks for its machine by the label")
    if lease.instance_id not in seen[provider.name]:
        try:
            provider.instance(lease.instance_id)
        except InstanceNotFound:
            reason = f"instance {lease.instance_id} is gone"
            ended = replace(lease, state=S.RELEASING, state_since=now, version=lease.version + 1, not_before=None)
            return Verdict(lease=replace(ended, reason=reason), fate=Fate.ENDED, reason=reason)
    return Verdict(lease=lease, fate=Fate.KEPT, reason="its machine is on its way out or not listed")


def _one_holder_a_node(verdicts: list[Verdict], now: datetime) -> list[Verdict]:
    """Who holds the node's overlay address is the node: an older lease of the same name gives way."""
    taken = {each.lease.node: each.lease.id for each in verdicts if each.fate is Fate.ADOPTED}
    settled = []
    for verdict in verdicts:
        lease = verdict.lease
        winner = taken.get(lease.node)
        if winner is not None and winner != lease.id and lease.state in HOLDS_NODE:
            reason = f"{lease.node} is lease {winner}'s machine now"
            ended = replace(lease, state=S.RELEASING, state_since=now, version=lease.version + 1, not_before=None)
            settled.append(Verdict(lease=replace(ended, reason=reason), fate=Fate.ENDED, reason=reason))
        else:
            settled.append(verdict)
    return settled


def _with_homes(verdicts: list[Verdict], facts: _Facts) -> Survey:
    """Homes that were brought since the backup are taken away when their jobs end, or at once when they have."""
    strays = []
    homes: dict[str, list[tuple[int, str]]] = {}
    ready = {each.lease.id: each.lease for each in verdicts if each.lease.state is S.READY}
    for export in facts.exports:
        lease = ready.get(export.lease)
        using = [
            job.id
            for job in facts.jobs
            if lease is not None and job.user == export.user and job.state in _STARTED and lease.node in job.nodes
        ]
        if using:
            homes.setdefault(export.lease, []).extend((job_id, export.user) for job_id in using)
        else:
            strays.append(export)
    return Survey(
        verdicts=tuple(replace(each, homes=tuple(homes.get(each.lease.id, ()))) for each in verdicts),
        strays=tuple(strays),
    )


def take_strays_away(world: World, strays: Iterable[Export]) -> None:
    """End the exports that nobody uses; one that cannot be ended is logged, and ends with its machine."""
    for export in strays:
        try:
            world.as_user.unexport_home(export.user, export.lease)
        except BrokerError as exc:
            log.error("user=%s lease_id=%s home is exported still: %s", export.user, export.lease, exc)


def _shape_of(world: World, node: str) -> str:
    return next((name for name in world.site.shapes if node.rpartition("-")[0] == name), _UNKNOWN)


def _host(endpoint: str) -> str:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return str(ip_address(host))
    except ValueError:
        return host
