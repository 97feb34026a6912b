"""`broker doctor` on a real site: nothing is wrong, then things are broken for real, and each is named with its mend."""

import json
import signal

import pytest
from e2e.conftest import Story

pytestmark = pytest.mark.rig


class Doctor:
    def __init__(self, story):
        self._story = story

    def __call__(self, *words):
        """The exit code, and all that is not well."""
        done = self._story.broker("doctor", "--json", *words)
        assert done.stdout, done.stderr
        return done.returncode, [each for each in json.loads(done.stdout)["findings"] if each["status"] != "ok"]

    def names(self, found, name, seen, mend):
        """A failure whose name begins so, with these words in it."""
        told = [each for each in found if each["name"].startswith(name) and seen in each["seen"]]
        assert told, (name, found)
        assert [each["status"] for each in told] == ["fail"], told
        assert mend in told[0]["mend"]


@pytest.fixture
def doctor(story):
    return Doctor(story)


@pytest.fixture
def root(story):
    """Run a line of shell as root on the controller; what it undoes at the end is `undo`ne in reverse."""
    undone = []

    def run(line, undo=None):
        done = story.sandbox.run("root", ["sh", "-ec", line])
        assert done.returncode == 0, done.stderr
        if undo:
            undone.append(undo)
        return done.stdout

    yield run
    for line in reversed(undone):
        story.sandbox.run("root", ["sh", "-c", line])


@pytest.fixture
def stop(story):
    """End a part of the sandbox for the length of the test."""
    stopped = []

    def end(part):
        story.sandbox.signal(part, signal.SIGKILL)
        story.wait(lambda: not story.sandbox.is_alive(part))
        stopped.append(part)

    yield end
    for part in reversed(stopped):
        story.sandbox.start(part)


@pytest.fixture(scope="module")
def node(sandbox):
    """A node with a running job."""
    story = Story(sandbox)
    job = story.submit(script="sleep 600")
    story.wait(lambda: story.job(job)["JobState"] == "RUNNING")
    yield story.job(job)["NodeList"]
    sandbox.run("root", ["scancel", str(job)])


def test_a_site_where_all_is_well_and_a_node_with_a_job_have_no_fault(doctor, node):
    code, found = doctor()
    # An activity that met a booting machine's silence may have said so a moment ago.
    assert (code, [each for each in found if not each["name"].startswith("activity ")]) == (0, [])
    assert doctor("--node", node) == (0, [])


def test_what_is_broken_on_the_controller_is_named_with_its_mend(doctor, stop, root):
    # `stop` first, so that it is undone last: a daemon started while its key is wrong would go on with that key.
    root("chmod 777 /etc/slurm/broker/shim.py", "chmod 755 /etc/slurm/broker/shim.py")
    root(
        "cp -p /etc/slurm/slurm.conf /run/kept; echo ResumeTimeout=20 >>/etc/slurm/slurm.conf",
        "cat /run/kept >/etc/slurm/slurm.conf",
    )
    root(
        "cp -p /etc/broker/lambda-b.key /run/key; echo wrong >/etc/broker/lambda-b.key",
        "cat /run/key >/etc/broker/lambda-b.key",
    )
    root("cp /etc/hosts /run/names; sed '/ h100-3$/d' /run/names >/etc/hosts", "cat /run/names >/etc/hosts")
    root("ip link set broker0 mtu 1500", "ip link set broker0 mtu 1380")
    root("chmod 777 /var/spool/broker/intents", "chmod 2770 /var/spool/broker/intents")
    root("scontrol update NodeName=h100-8 NodeAddr=10.99.9.9", "scontrol update NodeName=h100-8 NodeAddr=10.77.0.9")
    root(
        "sacctmgr -i modify user where name=broker set AdminLevel=None",
        "sacctmgr -i modify user where name=broker set AdminLevel=Admin",
    )
    for part in ("broker", "export-sshd", "broker-net", "broker-as-user"):
        stop(part)

    code, found = doctor()

    assert code == 1
    doctor.names(found, "daemon", "no daemon answers", "systemctl start broker")
    doctor.names(found, "knock", "nobody listens", "systemctl restart broker")
    doctor.names(found, "export sshd", "Connection refused", "systemctl restart broker-export-sshd")
    doctor.names(found, "broker-net", "no machine can be let into", "systemctl restart broker-net")
    doctor.names(found, "broker-as-user", "wait for their homes", "systemctl restart broker-as-user")
    doctor.names(found, "/etc/slurm/broker/shim.py", "mode 0777", "chmod 0755 /etc/slurm/broker/shim.py")
    doctor.names(found, "slurm.conf:", "ResumeTimeout=20 does not suffice", "ResumeTimeout=300")
    doctor.names(found, "credential lambda-b", "refused", "put a valid key")
    doctor.names(found, "names", "h100-3", "in /etc/hosts: 10.77.0.4 h100-3")
    doctor.names(found, "interface broker0", "MTU is 1500", "ip link set broker0 mtu 1380")
    doctor.names(found, "/var/spool/broker/intents", "lets others in", "chmod 2770 /var/spool/broker/intents")
    doctor.names(found, "node addresses", "10.99.9.9", "scontrol update NodeName=h100-8 NodeAddr=10.77.0.9")
    doctor.names(found, "AdminLevel of broker", "is None", "sacctmgr -i modify user where name=broker")
    # Root looked into the ledger of a dead daemon: nothing may lie there now that the daemon cannot write to.
    assert set(root("stat -c %U:%G /var/lib/broker/broker.db*").split()) == {"broker:broker"}


def test_a_dead_munge_is_named_among_all_that_it_takes_with_it(doctor, stop):
    stop("munged")

    code, found = doctor()

    assert code == 1
    doctor.names(found, "munge", "no credential can be made", "systemctl restart munge")
    others = {each["name"]: each["status"] for each in found if each["section"] == "slurm"}
    assert others == {"slurmctld": "skipped", "AdminLevel": "skipped", "node addresses": "skipped"}


def test_what_is_closed_to_a_node_or_broken_on_it_is_named_from_there(story, doctor, root, node):
    root(
        "nft add table inet t && nft 'add chain inet t in { type filter hook input priority 0; }'",
        "nft delete table inet t",
    )
    root("nft 'add rule inet t in iifname broker0 tcp dport { 2022, 60001-60500 } drop'")
    here = story.broker(
        "node", "ssh", node, "--", "sudo sh -c 'sed -i \"/ ctl$/d\" /etc/hosts; kill $(pgrep -f [/]dead_man.sh)'"
    )

    code, found = doctor("--node", node)

    assert (code, here.stderr) == (1, "")
    doctor.names(found, "export sshd", "10.77.0.1:2022: no answer", "dport 2022 accept")
    doctor.names(found, "srun on ctl", "60001-60500: no answer", "dport 60001-60500 accept")
    doctor.names(found, "names", "ctl resolves to nothing", "10.77.0.1 ctl")
    doctor.names(found, "dead-man", "its timer does not run", "broker lease release")


def test_a_node_behind_a_cut_tunnel_is_still_asked(story, doctor, root, node):
    key = root(f"wg show broker0 allowed-ips | grep -F \"$(getent hosts {node} | cut -d' ' -f1)/\" | cut -f1").strip()
    address = root(f"getent hosts {node}").split()[0]
    stopped = story.sandbox
    stopped.signal("broker", signal.SIGSTOP)  # it would set the peer again
    try:
        root(f"wg set broker0 peer {key} remove", f"wg set broker0 peer {key} allowed-ips {address}/32")
        code, found = doctor("--node", node)
    finally:
        stopped.signal("broker", signal.SIGCONT)

    assert code == 1
    doctor.names(found, "slurmd from here", ":6818: no answer", "wg show broker0")
    doctor.names(found, "slurmctld", "10.77.0.1:6817: no answer", "accept")
