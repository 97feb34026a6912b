"""Run by test_privileged.py as root of namespaces of its own."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.rigs import NET_ADMIN, PYTHON, Controller, sh, until

from broker.core.errors import BrokerError
from broker.privileged.client import Export, PrivilegedClient
from broker.provisioning.keys import new_host_key

WORK = Path("/run/rig")
EXPORTS = WORK / "exports"
ONE, TWO = "l0000000001", "l0000000002"
AS_BOB = ("setpriv", "--reuid", "1002", "--regid", "1002", "--clear-groups")


class Rig:
    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.hub_key = controller.hub()
        self.net = PrivilegedClient(controller.net_domain())
        self.as_user = PrivilegedClient(controller.as_user_domain())
        self.host_key = controller.export_sshd()
        (WORK / "known_hosts").write_text(f"[10.77.0.1]:2022 {self.host_key}\n")
        self.keys = {lease: self.key(lease) for lease in (ONE, TWO)}

    def key(self, name: str) -> str:
        private, public = new_host_key()
        file = WORK / name
        file.touch(mode=0o600)
        file.write_text(private)
        return public

    def sftp(self, lease: str, user: str = "alice", command: str = "ls /home") -> subprocess.CompletedProcess[str]:
        """A node, played by this host: the hub's own address is the node's."""
        return subprocess.run(
            [*self.sftp_command(lease, "-b", "-"), f"{user}@10.77.0.1"],
            input=command,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def sftp_command(self, lease: str, *more: str) -> list[str]:
        options = {"IdentitiesOnly": "yes", "BatchMode": "yes", "UserKnownHostsFile": f"{WORK}/known_hosts"}
        flags = [f"-o{name}={value}" for name, value in options.items()]
        return ["sftp", "-F", "/dev/null", "-P", "2022", "-i", f"{WORK}/{lease}", *flags, *more]

    def export(self, lease: str, user: str = "alice", address: str = "10.77.0.1") -> None:
        self.as_user.export_home(user, lease, self.keys[lease], address)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    controller = Controller(WORK)
    try:
        yield Rig(controller)
    finally:
        controller.stop()


@pytest.fixture(autouse=True)
def nothing_stays(rig: Rig) -> Iterator[None]:
    yield
    for export in rig.as_user.exports():
        rig.as_user.unexport_home(export.user, export.lease)
    assert str(EXPORTS) not in Path("/proc/self/mounts").read_text()
    assert sorted(path.name for path in EXPORTS.iterdir()) == [".keys"]


def test_broker_net_has_one_capability_and_serves_wireguard_go(rig: Rig) -> None:
    status = next(
        (process / "status").read_text()
        for process in Path("/proc").glob("[0-9]*")
        if b"broker.privileged.net" in (process / "cmdline").read_bytes()
    )
    assert "CapEff:\t0000000000001000" in status, "CAP_NET_ADMIN is bit 12"
    assert "Uid:\t990\t990\t990\t990" in status
    key = sh("wg genkey | wg pubkey").strip()

    rig.net.set_peer(key, "10.77.0.9")

    assert [(peer.public_key, peer.address, peer.last_handshake) for peer in rig.net.peers()] == [
        (key, "10.77.0.9", None)
    ]
    assert rig.net.hub().public_key == rig.hub_key
    assert rig.net.hub().listen_port == 51820
    rig.net.remove_address("10.77.0.9")
    assert sh("wg show broker0 peers") == ""


def test_a_user_of_the_machine_may_ask_neither_domain(rig: Rig) -> None:
    asking = "import sys, pathlib; from broker.privileged.client import PrivilegedClient as Client\n"
    asking += "Client(pathlib.Path(sys.argv[1])).exports()"
    for name in ("net", "as-user"):
        path = f"/run/broker/{name}.sock"
        command = [*AS_BOB, *PYTHON, "-c", asking, path]
        closed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Refused" in closed.stderr, closed.stderr
        # Even when the file's mode would let them in, the kernel says who they are.
        os.chmod(path, 0o666)  # noqa: PTH101, S103
        opened = subprocess.run(command, capture_output=True, text=True, check=False)
        os.chmod(path, 0o660)  # noqa: PTH101
        assert "uid 1002 may not ask this" in opened.stderr, opened.stderr


def test_an_export_shows_one_home_to_one_key_from_one_address(rig: Rig) -> None:
    sh("echo hello >/home/alice/note; chown 1001:1001 /home/alice/note")
    rig.export(ONE)

    assert rig.sftp(ONE, command=f"get /home/note {WORK}/fetched").returncode == 0
    assert (WORK / "fetched").read_text() == "hello\n"
    assert rig.sftp(ONE, user="bob").returncode != 0
    assert rig.sftp(TWO).returncode != 0
    assert "home" in rig.sftp(ONE, command="ls /..").stdout, "the chroot is all there is"
    assert "etc" not in rig.sftp(ONE, command="ls /..").stdout
    rig.export(ONE, address="10.77.0.77")
    assert rig.sftp(ONE).returncode != 0, "the key is bound to its node's address"


def test_a_second_lease_keeps_the_home_when_the_first_ends(rig: Rig) -> None:
    rig.export(ONE)
    rig.export(TWO)
    rig.export(TWO)
    assert rig.as_user.exports() == [Export(user="alice", lease=ONE), Export(user="alice", lease=TWO)]

    for _ in range(2):
        rig.as_user.unexport_home("alice", ONE)

    assert rig.sftp(ONE).returncode != 0
    assert rig.sftp(TWO).returncode == 0


def test_an_open_session_ends_with_its_export(rig: Rig) -> None:
    rig.export(ONE)
    with subprocess.Popen(
        [*rig.sftp_command(ONE), "alice@10.77.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as session:
        assert session.stdin is not None
        until(lambda: "sshd: alice@notty" in sh("ps ax -o args"), what="the session")
        rig.export(TWO)

        rig.as_user.unexport_home("alice", ONE)

        # Both leases' nodes have the same address here; that the other key's next session works is what counts.
        until(lambda: "sshd: alice@notty" not in sh("ps ax -o args"), what="the session's end")
        session.stdin.close()
        session.wait(10)
    assert rig.sftp(TWO).returncode == 0


def test_exports_live_on_when_the_domain_starts_again_and_after_a_reboot(rig: Rig) -> None:
    rig.export(ONE)
    domain = next(d for d in rig.controller.daemons if "broker.privileged.as_user" in list(map(str, d.args)))
    domain.terminate()
    domain.wait(10)
    assert rig.sftp(ONE).returncode == 0, "the domain is not in the way of the data"
    sh(f"umount {EXPORTS}/alice/home")

    rig.controller.as_user_domain()

    assert rig.as_user.exports() == [Export(user="alice", lease=ONE)]
    assert rig.sftp(ONE).returncode == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user": "root"}, "uid 0 is below 1000"),
        ({"user": "munge"}, "below 1000"),
        ({"user": "carol"}, "there is no such account"),
        ({"user": "../alice"}, "is not a user's name"),
        ({"user": "-alice"}, "is not a user's name"),
        ({"user": ".keys"}, "is not a user's name"),
        ({"lease": "l1\nssh-ed25519 AAAA"}, "is not a lease's name"),
        ({"lease": ""}, "is not a lease's name"),
        ({"public_key": "ssh-rsa AAAA"}, "not an ed25519 key"),
        ({"public_key": 'command="x" ssh-ed25519 AAAA'}, "not an ed25519 key"),
        ({"public_key": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"}, "not an ed25519 key"),
        ({"address": "0.0.0.0/0"}, "not an IPv4 address"),
        ({"address": '10.0.0.1",command="x'}, "not an IPv4 address"),
    ],
)
def test_what_may_not_be_exported_is_refused_in_words(rig: Rig, changes: dict[str, str], said: str) -> None:
    fields = {"user": "alice", "lease": ONE, "public_key": rig.keys[ONE], "address": "10.77.0.1"} | changes

    with pytest.raises(BrokerError, match=said):
        rig.as_user.export_home(**fields)


def test_a_home_that_somebody_could_swap_is_not_exported(rig: Rig) -> None:
    sh("chmod 777 /home")
    with pytest.raises(BrokerError, match="others than root may write to /home"):
        rig.export(ONE)
    sh("chmod 755 /home; mv /home/alice /home/alice.real; mkdir /home/alice")
    with pytest.raises(BrokerError, match="belongs to uid 0, not to 1001"):
        rig.export(ONE)
    sh("rmdir /home/alice")
    with pytest.raises(BrokerError, match="is not a folder here"):
        rig.export(ONE)
    sh("ln -s alice.real /home/alice")
    rig.export(ONE)
    assert rig.sftp(ONE).returncode == 0, "a link that only root can change is a usual thing on a site"
    rig.as_user.unexport_home("alice", ONE)
    sh("rm /home/alice; mv /home/alice.real /home/alice")


def test_without_its_capability_broker_net_changes_nothing(rig: Rig) -> None:
    powerless = [word.replace(",+net_admin", "") for word in NET_ADMIN]
    done = subprocess.run([*powerless, "ip", "link", "set", "broker0", "down"], capture_output=True, check=False)

    assert done.returncode != 0
