"""A bare machine becomes a node of a real slurmctld, over real SSH, WireGuard and sshfs; only the GPU is made up."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from integration import rigs

from broker.provisioning.bundle import build, find_bundle

pytestmark = pytest.mark.rig


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")
def test_a_bare_machine_joins_works_and_ends(tmp_path: Path) -> None:
    root = rigs.instance_root(tmp_path)
    rigs.in_namespaces("inside_join.py", tmp_path, BROKER_INSTANCE_ROOT=str(root))


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_the_bundle_needs_nothing_of_the_machine_it_runs_on(tmp_path: Path) -> None:
    """In an empty root there is no loader, no library and no shell but the bundle's own."""
    bundle = build(tmp_path)
    with tarfile.open(bundle.path) as archive:
        archive.extractall(tmp_path / "root" / "opt" / "broker", filter="data")

    for program, said in (
        ("sbin/slurmd", f"slurm.* {bundle.slurm_version}"),
        ("bin/wg", "wireguard-tools"),
        ("bin/sshfs", "SSHFS version"),
        ("sbin/munged", "munge-"),
        ("bin/wireguard-go", "wireguard-go"),
    ):
        flag = "--version" if "wg" in program or "wireguard" in program else "-V"
        done = subprocess.run(
            ["chroot", str(tmp_path / "root"), f"{bundle.prefix}/{program}", flag],
            capture_output=True,
            text=True,
            check=False,
        )
        assert re.search(said, done.stdout), f"{program}: {done.stdout} {done.stderr}"


def test_the_same_inputs_give_the_same_bundle(tmp_path: Path) -> None:
    one, other = build(tmp_path / "one"), build(tmp_path / "other")

    assert one.sha256 == other.sha256
    assert build(tmp_path / "one") == one
    assert find_bundle(tmp_path / "one") == one
    assert one.size_bytes < 40e6
