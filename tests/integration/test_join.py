"""A bare machine becomes a node of a real slurmctld, over real SSH, WireGuard and sshfs; only the GPU is made up."""

import os
from pathlib import Path

import pytest
from integration import rigs

pytestmark = pytest.mark.rig


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")
@pytest.mark.skipif(rigs.instance_root() is None, reason="no instance root here: the sandbox makes one")
def test_a_bare_machine_joins_works_and_ends(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    rigs.in_namespaces("inside_join.py", tmp_path)
