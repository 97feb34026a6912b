"""Work on one node over SSH, with its output kept in the lease's logs."""

from collections.abc import Iterable
from pathlib import Path

from broker.core.errors import NodeUnreachable
from broker.core.leases import Lease
from broker.provisioning.base import Shell, Step
from broker.reconcile.world import World


def open_node(world: World, lease: Lease, other_host_key: str | None = None) -> Shell:
    """A shell on the lease's machine. NodeUnreachable: no address yet, no answer, or not with the key we pinned.

    `other_host_key`: a key it may answer with as well, while the pinned one is being replaced.
    """
    if lease.address is None or lease.host_key is None:
        raise NodeUnreachable(f"lease {lease.id} has no address yet")
    return world.open_shell(
        address=lease.address,
        port=lease.ssh_port or world.site.ssh_port.get(lease.provider or "", 22),
        user=world.site.ssh_user.get(lease.provider or "", "root"),
        key_file=world.site.ssh_key_file,
        host_key=lease.host_key,
        transcript=log_file(world, lease, "boot"),
        other_host_key=other_host_key,
    )


def run_on_node(world: World, lease: Lease, steps: Iterable[Step]) -> None:
    """Run `steps` in order. NodeUnreachable, StepFailed."""
    with open_node(world, lease) as shell:
        for step in steps:
            shell.run(step)


def log_file(world: World, lease: Lease, which: str) -> Path:
    """Where the lease's `boot` (what we did on the machine) or `console` (what it said itself) log lies."""
    folder = world.site.lease_logs / lease.id
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{which}.log"
