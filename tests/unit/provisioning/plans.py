"""A join plan for tests."""

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from factories import a_shape

from broker.provisioning.bundle import Bundle, SystemUser
from broker.provisioning.steps import JoinPlan

BUNDLE = Bundle(
    path=Path("/var/lib/broker/bundle/bundle-0123456789ab.tar.gz"),
    sha256="0" * 64,
    size_bytes=1,
    id="0123456789ab",
    prefix="/opt/broker/bundle-0123456789ab",
    arch="x86_64",
    slurm_version="22.05.8",
    plugin_dir="/usr/lib/x86_64-linux-gnu/slurm-wlm",
    slurm=SystemUser(name="slurm", uid=64030, gid=64030),
    munge=SystemUser(name="munge", uid=103, gid=106),
    commands=("scontrol", "srun"),
    command_dir="/usr/bin",
)


def a_plan(**changes: Any) -> JoinPlan:
    values: dict[str, Any] = {
        "node": "h100-1",
        "shape": a_shape(),
        "address": IPv4Address("10.77.0.2"),
        "cidr": IPv4Network("10.77.0.0/16"),
        "hub": IPv4Address("10.77.0.1"),
        "hub_public_key": "aHViJ3Mgd2lyZWd1YXJkIGtleSBmb3IgdGVzdHMhISE=",
        "hub_endpoint": "broker.example.org:51820",
        "export_host_key": "ssh-ed25519 AAAAexport",
        "bundle": BUNDLE,
        "munge_key": b"the munge key \x00\xff",
        "dead_man": timedelta(minutes=10),
        "hosts": {"ctl": "10.77.0.1"},
    }
    return JoinPlan(**(values | changes))
