"""`broker node ssh` against a real sshd on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import replace

import pytest

from broker.services.views import NodeAccess

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ("sshd", "ssh", "ssh-keygen", "unshare"))),
    reason="takes root and OpenSSH's server",
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """An sshd with keys of its own; /run is its own too, so that nothing is left in the host's."""
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\n"
    )
    script = 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "$0" -D -e -f "$1"'
    server = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, shutil.which("sshd"), str(folder / "sshd_config")],
        stderr=subprocess.DEVNULL,
    )
    _wait_for(port, server)
    yield NodeAccess(
        node="h100-1",
        address="127.0.0.1",
        port=port,
        user=getpass.getuser(),
        host_key=(folder / "host.pub").read_text().strip(),
        key_file=str(folder / "user"),
    )
    server.terminate()
    server.wait(10)


def _wait_for(port, server):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("sshd did not start")


def test_a_command_runs_on_the_machine_and_its_exit_code_comes_back(daemon, machine, broker_process):
    daemon.access["h100-1"] = machine

    ended = broker_process("node", "ssh", "h100-1", "--", "echo $((6*7)); exit 3")

    assert (ended.code, ended.out) == (3, "42\n")


def test_several_words_stay_apart(daemon, machine, broker_process):
    daemon.access["h100-1"] = machine

    ended = broker_process("node", "ssh", "h100-1", "--", "printf", "%s|", "a b", "$HOME", "-x;")

    assert ended.out == "a b|$HOME|-x;|"


def test_a_machine_with_another_host_key_is_not_talked_to(daemon, machine, broker_process):
    other = machine.key_file.replace("user", "other")
    with open(f"{other}.pub") as file:  # noqa: PTH123
        daemon.access["h100-1"] = replace(machine, host_key=file.read().strip())

    ended = broker_process("node", "ssh", "h100-1", "--", "true")

    assert ended.code == 5
    assert "verification failed" in ended.err


def test_nothing_is_left_behind(daemon, machine, broker_process, tmp_path):
    daemon.access["h100-1"] = machine

    broker_process("node", "ssh", "h100-1", "--", "true", env={"TMPDIR": str(tmp_path)})

    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_pinned_yet_is_no_key(daemon, machine, broker):
    daemon.access["h100-1"] = replace(machine, host_key="")

    ended = broker("node", "ssh", "h100-1")

    assert ended.code == 1
    assert "not pinned yet" in ended.err


def test_a_host_without_the_brokers_key_is_told_so(daemon, machine, broker):
    daemon.access["h100-1"] = replace(machine, key_file="/nowhere/id_ed25519")

    ended = broker("node", "ssh", "h100-1")

    assert ended.code == 4
    assert "broker sandbox shell" in ended.err


def test_a_node_without_a_machine_is_not_found(daemon, broker):
    assert broker("node", "ssh", "h100-9").code == 4
