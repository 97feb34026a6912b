"""The privileged domains on real parts: wireguard-go, bind mounts, an sshd of their own, users and their rights."""

import os
from pathlib import Path

import pytest
from integration import rigs


@pytest.mark.rig
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")
def test_the_domains_do_what_they_are_for_and_nothing_else(tmp_path: Path) -> None:
    rigs.in_namespaces("inside_privileged.py", tmp_path)
