"""Which steps make a machine a node, prepare it for a job, and end its work. Pure: scripts in, scripts out.

The scripts are `templates/bootstrap/`; each is POSIX sh, run by root, and safe to repeat.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import Any, Protocol

from broker.core.demand import Shape
from broker.core.errors import Refused
from broker.provisioning.base import Step, Upload
from broker.provisioning.bundle import Bundle
from broker.provisioning.templates import render

_REMOTE_ARCHIVE = "/opt/broker/bundle.tar.gz"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_SYSTEM_FOLDERS = frozenset(
    ("bin", "boot", "dev", "etc", "lib", "lib64", "opt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var")
)


@dataclass(frozen=True, kw_only=True)
class JoinPlan:
    """All that a machine must be told to become `node`.

    `hub`, `address`: in the overlay; `hub_endpoint`: the hub's `host:port` on the internet. `hosts`: name → address
    for /etc/hosts. `munge_key` None: the provider is not trusted with it, and Slurm up to 23.02 cannot run there.
    `dead_man`: the machine ends itself when it was idle and unrenewed for so long. `slurmd_folders`: folders that
    slurm.conf names for slurmd (SlurmdSpoolDir and those of its log and pid file).
    """

    node: str
    shape: Shape
    address: IPv4Address
    cidr: IPv4Network
    hub: IPv4Address
    hub_public_key: str
    hub_endpoint: str
    export_host_key: str
    bundle: Bundle
    munge_key: bytes | None = field(repr=False)
    dead_man: timedelta
    hosts: Mapping[str, str] = field(default_factory=dict)
    mtu: int = 1380
    interface: str = "broker0"
    export_port: int = 2022
    slurmctld_port: int = 6817
    task_prolog: tuple[str, str] | None = None
    """(path, text) of the TaskProlog that slurm.conf names and the machine lacks."""
    slurmd_folders: tuple[str, ...] = ("/var/spool/slurmd", "/var/log/slurm")


class Home(Protocol):
    """A user and their home, as `broker-as-user` exported it (`privileged.client.HomeExport`)."""

    @property
    def user(self) -> str: ...
    @property
    def home(self) -> str: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def groups(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def gecos(self) -> str: ...
    @property
    def shell(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class JobOnNode:
    """A job about to start. Until `until` the node's dead-man timer leaves its running steps alone."""

    job_id: int
    home: Home
    until: datetime


def join_steps(plan: JoinPlan) -> list[Step]:
    """The steps of a join, slurmd last. The hub must know the node's peer between `overlay` and `overlay_up`."""
    overlay: dict[str, Any] = {"interface": plan.interface, "address": plan.address}
    hosts = sorted({**plan.hosts, plan.node: str(plan.address)}.items())
    bundle = plan.bundle
    steps = [
        _step("host_key_made", 30),
        _step("host_key", 30),
        _step("facts", 90),
        _step(
            "bundle",
            120,
            upload=Upload(local=bundle.path, remote=_REMOTE_ARCHIVE),
            bundle=bundle,
            remote=_REMOTE_ARCHIVE,
        ),
        _step("identities", 120, node=plan.node, slurm=bundle.slurm, munge=bundle.munge, hosts=hosts),
        _step("overlay", 30, mtu=plan.mtu, **overlay),
        _step(
            "overlay_up",
            60,
            hub_public_key=plan.hub_public_key,
            hub_endpoint=plan.hub_endpoint,
            cidr=plan.cidr,
            **overlay,
        ),
    ]
    if plan.munge_key is not None:
        steps.append(_step("munge", 60, stdin=plan.munge_key))
    silence = int(plan.dead_man.total_seconds())
    return [
        *steps,
        _step(
            "home_key",
            30,
            node=plan.node,
            hub_address=plan.hub,
            export_port=plan.export_port,
            export_host_key=plan.export_host_key,
        ),
        _step("dead_man", 30, renew_within_s=silence, poll_s=max(1, min(10, silence // 6))),
        _step(
            "slurmd",
            90,
            node=plan.node,
            controller=f"{plan.hub}:{plan.slurmctld_port}",
            folders=plan.slurmd_folders,
            task_prolog=plan.task_prolog,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another node of the same job. `endpoint`: `address:port` of its WireGuard in the provider's own network."""

    public_key: str
    address: IPv4Address
    endpoint: str


def peer_step(peers: Sequence[Peer], hosts: Mapping[str, str]) -> Step:
    """`peers` are spoken to directly, those of earlier jobs no more. `hosts`: the job's nodes, name → overlay address."""
    return _step("peers", 30, peers=peers, hosts=sorted(hosts.items()))


def met_step(peers: Sequence[Peer]) -> Step:
    """Waits for the handshakes with `peers`; the output `met` names the keys of those that answered."""
    return _step("peers_met", 30, peers=peers)


def start_job_steps(job: JobOnNode) -> list[Step]:
    """The user's identity, their home, and the time until which the job may run. Refused: the account cannot be used.

    What another user's job left behind is removed first.
    """
    home = job.home
    _check(home)
    groups = [("broker-" + str(home.gid), home.gid)] if not any(gid == home.gid for _, gid in home.groups) else []
    values: dict[str, Any] = {"home": home, "groups": [*groups, *home.groups]}
    return [
        _step("job_identity", 120, **values),
        _step("home_mount", 90, home=home),
        _step("job_until", 30, until=int(job.until.timestamp())),
    ]


def end_job_steps(user: str) -> list[Step]:
    """After the last job of `user` on the node: its processes, its home and its identity go."""
    return [_step("job_end", 300, user=user)]


def job_runs_step(job_id: int) -> Step:
    """Whether a step of the job lives on the machine, whatever slurmctld knows of it: the output `runs` is not empty."""
    return _step("job_runs", 30, job_id=int(job_id))


def register_step() -> Step:
    """slurmd tells slurmctld anew that it is there."""
    return _step("register", 30)


def renew_step() -> Step:
    """Put the dead-man timer forward."""
    return _step("renew", 30)


def drain_steps() -> list[Step]:
    """Stop slurmd and write everything to disk."""
    return [_step("drain", 120)]


def facts_step() -> Step:
    """What the machine is, for its acceptance. It changes nothing there."""
    return _step("facts", 90)


def console_step() -> Step:
    """The end of every log on the machine, for whoever asks why it failed."""
    return _step("console", 120)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What `broker doctor --node` asks a node. `callbacks`: (host, address, port) where srun would wait for it;
    `names`: host names it must resolve; `credential`: made by munge on the controller, empty when that failed."""

    hub: IPv4Address
    interface: str
    mtu: int
    slurmctld_port: int
    export_port: int
    callbacks: tuple[tuple[str, str, int], ...]
    names: tuple[str, ...]
    slurm_user: str | None
    credential: bytes = field(repr=False)


def doctor_steps(questions: Questions) -> list[Step]:
    """The machine's facts, then how it sees the controller. They change nothing on it."""
    asked = {name: getattr(questions, name) for name in questions.__dataclass_fields__ if name != "credential"}
    return [_step("facts", 90), _step("doctor", 90, stdin=questions.credential, **asked)]


def clock_step() -> Step:
    """Its time, in an answer so short that the way there and back bounds the error."""
    return Step(name="clock", script="date '+@out epoch=%s.%N'\n", timeout_s=10)


def _check(home: Home) -> None:
    folder = PurePosixPath(home.home)
    if not folder.is_absolute() or ".." in folder.parts or len(folder.parts) < 3 or folder.parts[1] in _SYSTEM_FOLDERS:
        raise Refused(f"user {home.user}: home {home.home} cannot be mounted on a node, a system folder lies there")
    words = [home.home, home.shell, home.gecos, *(name for name, _ in home.groups)]
    if (
        not _NAME.fullmatch(home.user)
        or any(re.search(r"[:\x00-\x1f\x7f]", word) for word in words)
        or " " in home.home
    ):
        raise Refused(f"user {home.user!r}: the account has a field that cannot stand in /etc/passwd of a node")


def _step(
    name: str, timeout_s: float, stdin: bytes | None = None, upload: Upload | None = None, **values: object
) -> Step:
    return Step(name=name, script=render(f"{name}.sh", **values), timeout_s=timeout_s, stdin=stdin, upload=upload)
