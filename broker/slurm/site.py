"""What Slurm's side of a site has to know about us."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from broker.core.demand import Shape
from broker.slurm import hostlist

INSTALL_DIR = PurePosixPath("/etc/slurm/broker")
SPOOL = PurePosixPath("/var/spool/broker")
CONF = PurePosixPath("/etc/slurm/slurm.conf")
_GIB_IN_MIB = 1024


@dataclass(frozen=True, kw_only=True)
class SlurmSite:
    """`addresses`: node name → overlay address, for every name of `shapes`; `hub`: the controller's own.

    `slurm_version` as in `22.05.8`; `install_dir` holds the programs that Slurm calls.
    """

    shapes: tuple[Shape, ...]
    addresses: Mapping[str, str]
    hub: str
    resume_timeout_s: int
    suspend_timeout_s: int
    suspend_time_s: int
    slurm_version: str
    install_dir: PurePosixPath = INSTALL_DIR
    spool: PurePosixPath = SPOOL
    conf: PurePosixPath = CONF
    interface: str = "broker0"
    """The overlay's, on nodes."""
    task_prolog: bool = False
    """The site has copied our TaskProlog to its own nodes, and wants it in slurm.conf."""

    @property
    def partitions(self) -> dict[str, tuple[str, ...]]:
        """Elastic partition → its node names, in configured order."""
        nodes: dict[str, tuple[str, ...]] = {}
        for shape in self.shapes:
            nodes[shape.partition] = (*nodes.get(shape.partition, ()), *names_of(shape))
        return nodes

    @property
    def release(self) -> tuple[int, int]:
        """Slurm's release, to compare: (22, 5)."""
        numbers = [int(number) for number in re.findall(r"\d+", self.slurm_version)[:2]]
        return (numbers[0], numbers[1]) if len(numbers) == 2 else (22, 5)


def names_of(shape: Shape) -> tuple[str, ...]:
    """The shape's node names: `<name>-1` … `<name>-<nodes>`."""
    return tuple(f"{shape.name}-{number}" for number in range(1, shape.nodes + 1))


def gres_type(shape: Shape) -> str:
    """The GPU model as Slurm may spell it: lower case, without spaces."""
    return re.sub(r"[^a-z0-9_.-]+", "_", (shape.accelerator or "").lower())


def node_line(site: SlurmSite, shape: Shape) -> str:
    """The NodeName line of `shape`."""
    names = names_of(shape)
    parts = [
        f"NodeName={hostlist.fold(names)}",
        f"NodeAddr={','.join(_runs([site.addresses[name] for name in names]))}",
        f"CPUs={shape.cpus}",
        # Machines of one nominal size report a little less, each provider another little.
        f"RealMemory={shape.memory_gib * _GIB_IN_MIB * 95 // 100}",
    ]
    if shape.accelerator:
        parts.append(f"Gres=gpu:{gres_type(shape)}:{shape.accelerator_count}")
    return " ".join([*parts, "State=CLOUD"])


def partition_line(site: SlurmSite, name: str) -> str:
    """The PartitionName line of an elastic partition."""
    times = (
        f"ResumeTimeout={site.resume_timeout_s} "
        f"SuspendTimeout={site.suspend_timeout_s} "
        f"SuspendTime={site.suspend_time_s}"
    )
    return f"PartitionName={name} Nodes={hostlist.fold(site.partitions[name])} State=UP ExclusiveUser=YES {times}"


def _runs(addresses: list[str]) -> Iterator[str]:
    """The addresses, in this order, as `10.77.0.[2-5]` and the like: Slurm pairs them with the names one by one."""
    start = 0
    for i in range(1, len(addresses) + 1):
        if i < len(addresses) and _follows(addresses[i - 1], addresses[i]):
            continue
        head, _, first = addresses[start].rpartition(".")
        last = addresses[i - 1].rpartition(".")[2]
        yield addresses[start] if i - 1 == start else f"{head}.[{first}-{last}]"
        start = i


def _follows(one: str, other: str) -> bool:
    head, _, last = one.rpartition(".")
    return other == f"{head}.{int(last) + 1}"
