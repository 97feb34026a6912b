"""What `broker init` asks, and the answers it finds by looking around."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

_SLURM_CONF = (Path("/etc/slurm/slurm.conf"), Path("/etc/slurm-llnl/slurm.conf"), Path("/usr/local/etc/slurm.conf"))
_OVERLAYS = ("10.77.0.0/16", "10.177.0.0/16", "172.27.0.0/16", "192.168.224.0/20", "100.96.0.0/16")
_PORT = 51820


@dataclass(frozen=True, kw_only=True)
class Question:
    """`where` is the key whose check the answer must pass; a `number` goes into the file without quotes."""

    name: str
    where: str
    text: str
    default: str
    number: bool = False


def questions(slurm_conf: Path | None, routes: str) -> list[Question]:
    """Every question with its default. `routes`: the text of /proc/net/route, whose networks the overlay avoids."""
    conf = slurm_conf or _SLURM_CONF[0]
    return [
        Question(
            name="cluster",
            where="site.cluster",
            text="Name of the cluster at the providers",
            default=_cluster(slurm_conf),
        ),
        Question(name="slurm_conf", where="slurm.conf", text="Slurm's configuration", default=str(conf)),
        Question(
            name="plugin_dir",
            where="slurm.plugin_dir",
            text="Folder for the programs Slurm calls",
            default=str(conf.parent / "broker"),
        ),
        Question(
            name="cidr", where="overlay.cidr", text="Private network for the nodes", default=_free_overlay(routes)
        ),
        Question(
            name="endpoint",
            where="overlay.endpoint",
            text="host:port where machines on the internet reach this host (UDP)",
            default=f"{_own_address()}:{_PORT}",
        ),
        Question(
            name="max_nodes",
            where="limits.max_nodes",
            text="At most so many machines at once",
            default="4",
            number=True,
        ),
        Question(
            name="max_usd_per_hour",
            where="limits.max_usd_per_hour",
            text="At most so many USD an hour for all machines together",
            default="20.00",
        ),
        Question(name="gpu", where="shape[1].gpu", text="GPU model of the nodes", default="H100"),
        Question(name="gpu_count", where="shape[1].gpu_count", text="GPUs in a node", default="1", number=True),
        Question(name="cpus", where="shape[1].cpus", text="CPUs at least", default="16", number=True),
        Question(
            name="memory_gib", where="shape[1].memory_gib", text="Memory at least (GiB)", default="128", number=True
        ),
        Question(name="disk_gib", where="shape[1].disk_gib", text="Disk at least (GiB)", default="200", number=True),
        Question(name="nodes", where="shape[1].nodes", text="Node names of this shape", default="4", number=True),
        Question(name="partition", where="shape[1].partition", text="Partition of these nodes", default="cloud"),
        Question(
            name="api_key_file",
            where="provider.lambda-a.api_key_file",
            text="File with Lambda's API key",
            default="/etc/broker/lambda-a.key",
        ),
        Question(
            name="trust",
            where="provider.lambda-a.trust",
            text="Trust its machines with the munge key (full), or not (none: nothing is bought there)",
            default="none",
        ),
    ]


def find_slurm_conf(environ: Mapping[str, str]) -> Path | None:
    """SLURM_CONF, or the first of the usual places where a file is."""
    named = environ.get("SLURM_CONF")
    places = [Path(named)] if named else list(_SLURM_CONF)
    return next((place.absolute() for place in places if place.is_file()), None)


def _cluster(slurm_conf: Path | None) -> str:
    try:
        text = slurm_conf.read_text(encoding="utf-8", errors="replace") if slurm_conf else ""
    except OSError:
        text = ""
    found = re.search(r"^\s*ClusterName\s*=\s*([^\s#]+)", text, re.IGNORECASE | re.MULTILINE)
    # Slurm takes underscores and dots; providers' labels and DNS do not.
    name = re.sub(r"[^a-z0-9]+", "-", found[1].lower()).strip("-")[:32].strip("-") if found else ""
    return name or "cluster"


def _free_overlay(routes: str) -> str:
    """The first of our candidates that none of the host's routes touches."""
    taken = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[7] == "00000000":
            continue
        # The kernel prints addresses as hexadecimal numbers in the host's byte order.
        address, mask = (int.from_bytes(bytes.fromhex(fields[at])[::-1], "big") for at in (1, 7))
        taken.append(IPv4Network((address, mask.bit_count()), strict=False))
    free = [net for net in _OVERLAYS if not any(IPv4Network(net).overlaps(other) for other in taken)]
    return (free or _OVERLAYS)[0]


def _own_address() -> str:
    # Connecting a UDP socket sends nothing; it only makes the kernel choose the address this host goes out with.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return os.uname().nodename
