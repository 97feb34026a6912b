"""A site, a bundle and a node's answers in which nothing is wrong."""

from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from factories import NOON, a_shape

from broker.config import NodeSettings, Overlay, Policy, ProviderSettings, Secret, Settings, Site, SlurmSettings
from broker.core.demand import Limits
from broker.core.offers import Instance, InstanceState
from broker.doctor.node import Asked, Wanted
from broker.doctor.place import Entry
from broker.privileged.client import Peer
from broker.provisioning.bundle import Bundle, SystemUser
from broker.provisioning.fake import facts_of
from broker.slurm.site import SlurmSite

SHAPE = a_shape(nodes=2)


def settings(folder: Path = Path("/"), **limits: Any) -> Settings:
    return Settings(
        path=folder / "etc/broker/broker.toml",
        site=Site(
            cluster="lab",
            currency="USD",
            operators=("root",),
            state_dir=folder / "var/lib/broker",
            run_dir=folder / "run/broker",
            spool_dir=folder / "var/spool/broker",
            metrics_listen=None,
        ),
        slurm=SlurmSettings(
            conf=folder / "etc/slurm/slurm.conf",
            plugin_dir=folder / "etc/slurm/broker",
            resume_timeout_s=1500,
            suspend_timeout_s=60,
            suspend_time_s=300,
            command_timeout_s=30,
        ),
        overlay=Overlay(
            cidr=IPv4Network("10.77.0.0/24"),
            endpoint="hub.example.org:51820",
            interface="broker0",
            mtu=1380,
            nodes=("h100-1", "h100-2"),
        ),
        limits=Limits(**({"max_nodes": 2, "max_usd_per_hour": Decimal(40)} | limits)),
        node=NodeSettings(
            ssh_user="ubuntu",
            dead_man_s=900,
            bundle_dir=folder / "var/lib/broker/bundle",
            munge_key=folder / "etc/broker/munge.key",
            export_host_key=folder / "etc/broker/export-sshd.pub",
            export_port=2022,
        ),
        shapes=(SHAPE,),
        providers={"lambda-a": provider()},
        policy=Policy(mode="cheap"),
    )


def provider(**changes: Any) -> ProviderSettings:
    values: dict[str, Any] = {
        "name": "lambda-a",
        "kind": "lambda",
        "base_url": "http://192.0.2.1",
        "api_key": Secret("k"),
        "trusted": True,
        "regions": (),
        "boot_timeout_s": 1200,
        "ssh_port": 22,
        "call_interval_ms": None,
        "create_interval_ms": None,
    }
    return ProviderSettings(**(values | changes))


def slurm_site() -> SlurmSite:
    return SlurmSite(
        shapes=(SHAPE,),
        addresses={"h100-1": "10.77.0.2", "h100-2": "10.77.0.3"},
        hub="10.77.0.1",
        resume_timeout_s=1500,
        suspend_timeout_s=60,
        suspend_time_s=300,
        slurm_version="22.05.8",
    )


def bundle(**changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "path": Path("/var/lib/broker/bundle/bundle-0.tar.gz"),
        "sha256": "0",
        "size_bytes": 1,
        "id": "0",
        "prefix": "/opt/broker/bundle-0",
        "arch": "x86_64",
        "slurm_version": "22.05.8",
        "plugin_dir": "/usr/lib/slurm",
        "slurm": SystemUser(name="slurm", uid=64030, gid=64030),
        "munge": SystemUser(name="munge", uid=103, gid=106),
        "commands": (),
        "command_dir": "/usr/bin",
    }
    return Bundle(**(values | changes))


def entry(path: str, mode: int, owner: str = "broker", group: str = "broker", kind: str = "file") -> Entry:
    return Entry(path=Path(path), kind=kind, owner=owner, group=group, mode=mode)


def instance(label: str) -> Instance:
    return Instance(
        id="i-1",
        label=label,
        state=InstanceState.RUNNING,
        raw_state="active",
        address=None,
        instance_type=None,
        zone=None,
        price_per_hour=None,
    )


def peer(address: str, heard_s_ago: float | None) -> Peer:
    heard = None if heard_s_ago is None else NOON - timedelta(seconds=heard_s_ago)
    return Peer(public_key="k", address=address, endpoint=None, last_handshake=heard, rx_bytes=0, tx_bytes=0)


def wanted(**changes: Any) -> Wanted:
    values: dict[str, Any] = {
        "node": "h100-1",
        "lease": "l0123456789",
        "this_host": "ctl",
        "interface": "broker0",
        "shape": SHAPE,
        "bundle": bundle(),
        "overlay_mtu": 1380,
        "hub": "10.77.0.1",
        "endpoint": "hub.example.org:51820",
        "dead_man_s": 900,
        "export_port": 2022,
        "controllers": ("ctl",),
        "users": {"alice": (1001, 1001)},
        "ssh_user": "ubuntu",
        "srun_port_range": "60001-60500",
    }
    return Wanted(**(values | changes))


def answers(**changes: str | None) -> dict[str, str]:
    """What the step `doctor` puts out on a good node; a change to None takes the answer out."""
    good: dict[str, str | None] = {
        "interface": "up",
        "mtu": "1380",
        "handshake": "990",
        "direct": "1 1",
        "now": "1000",
        "slurmctld": "open",
        "export": "open",
        "callback ctl": "open",
        "small": "refused",
        "large": "refused",
        "slurmd": "77",
        "slurmd_version": "slurm-wlm 22.05.8",
        "dead_man": "78",
        "renewed": "900",
        "munge": "STATUS:          Success (0)",
        "name ctl": "10.77.0.1",
        "users": "ubuntu:1000:1000 alice:1001:1001 slurm:64030:64030 ",
        "slurm_user": "64030:64030",
        "home /home/alice": "answers",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def asked(offset_s: float = 0.0, facts: dict[str, str] | None = None, **changes: str | None) -> Asked:
    machine = facts_of(SHAPE, epoch=1000) | (facts or {})
    return Asked(facts=machine, answers=answers(**changes), offset_s=offset_s, error_s=0.05)
