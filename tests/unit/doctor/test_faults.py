"""Each fault is named with what was seen and the mend; what is well is not."""

from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from factories import NOON, a_lease
from unit.doctor import made

from broker.core.errors import CredentialsRefused, ProviderUnavailable, QuotaExceeded, RateLimited
from broker.core.leases import LeaseState
from broker.doctor import access, keys, node, overlay, providers, site, slurm
from broker.doctor.access import Want
from broker.doctor.findings import Finding, Status
from broker.doctor.overlay import Interface
from broker.doctor.place import NOT_INSTALLED, Ran
from broker.doctor.site import Daemon
from broker.privileged.client import Hub
from broker.provisioning.bundle import SystemUser
from broker.slurm import directives
from broker.slurm.inlined import Source
from broker.slurm.plugins import Plugin

FAIL, WARN, SKIPPED = Status.FAIL, Status.WARN, Status.SKIPPED
SETTINGS = made.settings()
ADDRESSES = {"h100-1": IPv4Address("10.77.0.2"), "h100-2": IPv4Address("10.77.0.3")}
INTENTS = Want(
    path=Path("/s/intents"), kind="folder", owner="slurm", group="broker", mode=0o2770, never=0o007, why="intents"
)
KNOCK = Want(path=Path("/s/knock"), kind="FIFO", owner="broker", group="slurm", mode=0o620, never=0o007, why="knocks")
SHIM = Plugin(name="shim.py", text="ours", executable=True)
SHIM_AT = Path("/etc/slurm/broker/shim.py")
INSTALL = "broker slurm-conf --install /etc/slurm/broker"
PACKED = frozenset({"plugins/auth_munge.so", "plugins/proctrack_linuxproc.so"})
SSHD_CONF = Path("/etc/broker/export-sshd.conf")
LONG_AGO = {"last_success_at": "2026-01-01T00:00:00+00:00", "last_error": None}
GOOD_INTERFACE = {"up": True, "mtu": 1380, "addresses": ("10.77.0.1",), "forwards": False}


def status(**changes):
    activity = {"last_success_at": NOON.isoformat(), "last_error": None}
    document = {"version": site.__version__, "paused": None, "living_leases": 0, "activities": {"launch": activity}}
    return document | changes


def daemon(since=100.0, config_changed=50.0, silence=None, **changes):
    document = None if silence else status(**changes)
    return site.judge_daemon(Daemon(status=document, silence=silence), since, config_changed)


def activities(**activity):
    good = {"last_success_at": NOON.isoformat(), "last_error": None}
    return site.judge_activities(status(activities={"sweep": good | activity}), NOON)


def leases(**changes):
    lease = a_lease(**({"provider": "lambda-a", "instance_id": "i-1"} | changes))
    return site.judge_leases([lease], SETTINGS, NOON + timedelta(hours=1))


def ran(out="", err="", code=0):
    return Ran(code=code, out=out, err=err)


def conf(text):
    return directives.read(text)


def interface(**changes):
    return overlay.judge_interface(SETTINGS, Interface(**(GOOD_INTERFACE | changes)))


def reach(*peers):
    ready = a_lease(node="h100-1", state=LeaseState.READY)
    return overlay.judge_reach(peers, [ready], ADDRESSES, NOON)


def lint(text):
    source = Source(text=text, places=tuple((Path("slurm.conf"), n) for n in range(1, text.count("\n") + 2)))
    return slurm.judge_lint(source, made.slurm_site(), {}, Path("slurm.conf"))


def munge_key(seen, same=True):
    return keys.judge_munge_key(Path("/etc/broker/munge.key"), seen, frozenset({"broker"}), same)


def users(bundle=None, **here):
    numbers = {"slurm": (64030, 64030), "munge": (103, 106), "broker": (999, 999)} | here
    return keys.judge_users(bundle or made.bundle(), "slurm", numbers)


def sshd(silence=None, answered="ssh-ed25519 AAAA", wanted="ssh-ed25519 AAAA broker-export"):
    return overlay.judge_sshd("10.77.0.1:2022", silence, answered, Path("/e.pub"), wanted)


def credential(instances=(), suspended=None, **changes):
    return providers.judge_credential(made.provider(**changes), instances, "lab", [], suspended)


def refusal(error):
    return providers.judge_refusal("lambda-a", "https://cloud.example", error)


def limits(living=0, **changes):
    return providers.judge_limits(made.settings(**changes), [a_lease() for _ in range(living)])


def on_node(**changes):
    wanted = changes.pop("wanted", {})
    return node.judge(made.asked(**changes), made.wanted(**wanted))


FAULTS = [
    # the daemon and its files
    (daemon(silence="nobody answers"), FAIL, "nobody answers", "systemctl start broker"),
    (daemon(version="0.0.9"), WARN, "0.0.9 runs", "systemctl restart broker"),
    (daemon(config_changed=200.0), WARN, "was changed after", "systemctl restart broker"),
    (daemon(paused="night shift"), WARN, "night shift", "broker resume"),
    (activities(last_error="boom"), WARN, "boom", "journalctl -u broker | grep activity=sweep"),
    (activities(last_success_at=(NOON - timedelta(minutes=9)).isoformat()), FAIL, "hangs", "restart broker"),
    (site.judge_activities(None, NOON), SKIPPED, "does not answer", None),
    (site.judge_knock(Path("/s/knock"), False), FAIL, "nobody listens on /s/knock", "restart broker"),
    (site.judge_intents(Path("/s"), [5.0, 90.0], 0, True), FAIL, "the oldest for 90 s", "broker status"),
    (site.judge_intents(Path("/s"), [5.0], 0, False), WARN, "1 calls of Slurm wait", "systemctl start broker"),
    (site.judge_intents(Path("/s"), [], 2, True), WARN, "2 calls could not be read", "ls -l /s/bad"),
    (site.judge_space(Path("/s"), 100), FAIL, "100 MiB", "df -h /s"),
    (site.judge_space(Path("/s"), 1000), WARN, "1000 MiB", "df -h /s"),
    (site.judge_ledger("broker.db", None, "0002", False), FAIL, "no tables", "systemctl start broker"),
    (site.judge_ledger("broker.db", "0001", "0002", True), FAIL, "at revision 0001", "systemctl restart broker"),
    (leases(provider="gone"), FAIL, "[provider.gone] is gone", "put [provider.gone] back"),
    (leases(state=LeaseState.LAUNCHING, label="broker-lab-x"), WARN, "not known", "console for broker-lab-x"),
    (leases(state=LeaseState.RELEASING), FAIL, "i-1 costs money", "broker lease show"),
    (leases(state=LeaseState.BOOTSTRAPPING, deadline=NOON), WARN, "given it up", "broker lease release"),
    # files
    (access.judge(INTENTS, None), FAIL, "is missing", "install -d -o slurm -g broker -m 2770 /s/intents"),
    (access.judge(KNOCK, None), FAIL, "is missing", "mkfifo -m 0620 /s/knock && chown broker:slurm /s/knock"),
    (access.judge(KNOCK, made.entry("/s/knock", 0o620)), FAIL, "is a file, not a FIFO", "mkfifo"),
    (
        access.judge(INTENTS, made.entry("/s/intents", 0o2777, "root", "broker", "folder")),
        FAIL,
        "belongs to root, not to slurm; mode 2777 lets others in (0007)",
        "chown slurm:broker /s/intents && chmod 2770 /s/intents",
    ),
    (
        access.judge(INTENTS, made.entry("/s/intents", 0o700, "slurm", "slurm", "folder")),
        FAIL,
        "its group is slurm, not broker; mode 0700 lacks 2070",
        "chmod 2770",
    ),
    # Slurm
    (
        lint("ClusterName=x\nSelectType=select/linear\n"),
        FAIL,
        "SelectType=select/linear",
        "SelectType=select/cons_tres",
    ),
    (lint("ClusterName=x\nTopologyPlugin=topology/tree\n"), WARN, "topology/tree", "SwitchName=broker"),
    (lint("ClusterName=x\nResumeTimeout=60\n"), FAIL, "ResumeTimeout=60 does not suffice", "ResumeTimeout=1500"),
    (lint("Prolog=/site/prolog\n"), FAIL, "Prolog=/site/prolog runs on every node", "take it out"),
    (lint("HealthCheckProgram=/site/h\n"), WARN, "HealthCheckProgram=/site/h", "do without it"),
    (
        lint("AccountingStorageType=accounting_storage/slurmdbd\n"),
        WARN,
        "AccountingStorageTRES",
        "AccountingStorageTRES=gres/gpu",
    ),
    (slurm.judge_program(SHIM, SHIM_AT, None, None, INSTALL), FAIL, "is missing", INSTALL),
    (
        slurm.judge_program(SHIM, SHIM_AT, made.entry("s", 0o644), "ours", INSTALL),
        FAIL,
        "not executable",
        f"chmod 0755 {SHIM_AT}",
    ),
    (
        slurm.judge_program(SHIM, SHIM_AT, made.entry("s", 0o775), "ours", INSTALL),
        FAIL,
        "others may write",
        "chmod 0755",
    ),
    (slurm.judge_program(SHIM, SHIM_AT, made.entry("s", 0o755), "old", INSTALL), FAIL, "is not what", INSTALL),
    (slurm.judge_link(Path("/r"), "elsewhere.py", INSTALL), FAIL, "leads to elsewhere.py", INSTALL),
    (slurm.judge_link(Path("/r"), None, INSTALL), FAIL, "is missing", INSTALL),
    (slurm.judge_ping(ran("Slurmctld(primary) at ctl is DOWN", code=1)), FAIL, "is DOWN", "systemctl start slurmctld"),
    (slurm.judge_ping(ran(err="scontrol: No such file", code=NOT_INSTALLED)), FAIL, "missing here", "slurm-client"),
    (
        slurm.judge_running(conf("ResumeTimeout=1500"), {"ResumeTimeout": "60 sec"}),
        FAIL,
        "ResumeTimeout is 60 sec in slurmctld, 1500 in slurm.conf",
        "scontrol reconfigure",
    ),
    (slurm.judge_version("20.11.4", None), FAIL, "20.11.4", "upgrade Slurm"),
    (slurm.judge_version("24.05.1", "24.05.1"), WARN, "tested is 22.05", "max_nodes = 1"),
    (slurm.judge_version("22.05.8", "23.02.1"), FAIL, "nodes get slurmd 23.02.1", "broker node-bundle build"),
    (slurm.judge_version("22.05.8", "21.08.5"), WARN, "nodes get slurmd 21.08.5", "broker node-bundle build"),
    (slurm.judge_rights("broker", "slurm", False, None), FAIL, "without slurmdbd", "User= in broker.service"),
    (slurm.judge_rights("broker", "slurm", True, ran(code=1, err="down")), FAIL, "down", "systemctl start slurmdbd"),
    (slurm.judge_rights("broker", "slurm", True, ran("")), FAIL, "knows no user broker", "sacctmgr -i add user broker"),
    (slurm.judge_rights("broker", "slurm", True, ran("None\n")), FAIL, "is None", "sacctmgr -i modify user"),
    (slurm.judge_addresses(ADDRESSES, {"h100-1": "10.77.0.2"}), FAIL, "does not know h100-2", "restart slurmctld"),
    (
        slurm.judge_addresses(ADDRESSES, {"h100-1": "h100-1", "h100-2": "10.77.0.3"}),
        FAIL,
        "NodeAddr of h100-1 is h100-1",
        "scontrol update NodeName=h100-1 NodeAddr=10.77.0.2",
    ),
    (slurm.judge_plugins(conf("ProctrackType=proctrack/cgroup"), PACKED), FAIL, "proctrack_cgroup.so", "bundle build"),
    (slurm.judge_plugins(conf("MpiDefault=pmix"), PACKED), FAIL, "no mpi_pmix.so", "bundle build"),
    (slurm.judge_plugins(conf(""), frozenset()), SKIPPED, "no node bundle", None),
    (
        slurm.judge_plugstack(Path("/p"), "optional a.so\nrequired /x/b.so min=1 # why\n"),
        FAIL,
        "line 2 requires /x/b.so",
        "in /p: optional /x/b.so min=1",
    ),
    # keys and identities
    (keys.judge_munge(ran(code=1, err="no socket")), FAIL, "no socket", "systemctl restart munge"),
    (keys.judge_munge(ran(code=NOT_INSTALLED, err="munge: No such file")), FAIL, "munge", "apt-get install munge"),
    (munge_key(None), FAIL, "is missing", "install -o broker -g broker -m 0400"),
    (munge_key(made.entry("k", 0o444)), FAIL, "any user of the cluster", "chmod o-rwx"),
    (munge_key(made.entry("k", 0o400, "munge", "munge")), FAIL, "cannot read it", "install -o broker"),
    (munge_key(made.entry("k", 0o400), same=False), FAIL, "differs from /etc/munge/munge.key", "install -o broker"),
    (
        keys.judge_munge_key(keys.MUNGED_KEY, made.entry("k", 0o400, "munge", "munge"), frozenset(), None),
        FAIL,
        "cannot read it",
        'munge_key = "/etc/broker/munge.key" in [node]; then: install -o broker',
    ),
    (keys.judge_ssh_key(Path("/k"), None), WARN, "not there yet", "systemctl start broker"),
    (keys.judge_ssh_key(Path("/k"), made.entry("/k", 0o644)), FAIL, "0644", "chmod 0600 /k"),
    (keys.judge_ssh_key(Path("/k"), made.entry("/k", 0o600, "root")), FAIL, "root", "chown broker:broker /k"),
    (users(slurm=(500, 500)), FAIL, "is 500:500 here, 64030:64030 on nodes", "broker node-bundle build"),
    (users(munge=None), WARN, "is no account here", "broker node-bundle build"),
    (users(broker=None), FAIL, "no such account", "useradd"),
    (users(made.bundle(slurm=SystemUser(name="sl", uid=1, gid=1))), FAIL, "built for sl", "--slurm-user slurm"),
    (users(made.bundle(slurm=None)), FAIL, "does not know the user slurm", "--slurm-user slurm"),
    (keys.judge_arch(made.bundle(arch="aarch64"), "x86_64"), WARN, "is for aarch64", "broker node-bundle build"),
    # the overlay
    (overlay.judge_interface(SETTINGS, None), FAIL, "is not there", "systemctl restart wg-quick@broker0"),
    (interface(up=False), FAIL, "is down", "ip link set broker0 up"),
    (interface(addresses=("10.99.0.1",)), FAIL, "10.99.0.1", "ip address add 10.77.0.1/24 dev broker0"),
    (interface(mtu=1420), FAIL, "MTU is 1420", "ip link set broker0 mtu 1380"),
    (interface(mtu=1300), WARN, "MTU is 1300", "ip link set broker0 mtu 1380"),
    (interface(forwards=True), SKIPPED, "routes its packets on", "forwarding=0"),
    (overlay.judge_hub(Hub(public_key="k", listen_port=1), "h:51820"), WARN, "UDP 1,", "ListenPort = 51820"),
    (reach(), FAIL, "the hub does not know it", "systemctl restart broker"),
    (reach(made.peer("10.77.0.2", None)), FAIL, "was never heard", "broker doctor --node h100-1"),
    (reach(made.peer("10.77.0.2", 400)), FAIL, "400 s ago", "broker doctor --node h100-1"),
    (overlay.judge_reach([], [], ADDRESSES, NOON), SKIPPED, "from inside", "broker doctor --node"),
    (
        overlay.judge_names(ADDRESSES, {"h100-1": None, "h100-2": "1.2.3.4"}),
        FAIL,
        "h100-1 resolves to nothing",
        "in /etc/hosts: 10.77.0.2 h100-1 (and 1 more",
    ),
    (overlay.judge_path("h100-1", 1380, None, "no answer in 4 s"), FAIL, "1380 bytes do not arrive", "mtu = 1280"),
    (overlay.judge_path("h100-1", 1380, "no answer", "no answer"), SKIPPED, "no answer", "broker doctor --node"),
    (overlay.judge_port("slurmctld's port", "h:6817", "Connection refused", "do"), FAIL, "h:6817: Connection", "do"),
    (sshd(silence="Connection refused"), FAIL, "Connection refused", "systemctl restart broker-export-sshd"),
    (sshd(answered=None), FAIL, "no SSH server", "journalctl -u broker-export-sshd"),
    (sshd(wanted=None), FAIL, "/e.pub, the public key", "broker-export.key.pub /e.pub"),
    (sshd(answered="ssh-ed25519 BBBB"), FAIL, "another key", "install -m 0644"),
    (overlay.judge_sshd_conf(SSHD_CONF, None, "Port 1\n"), SKIPPED, "not there", "broker slurm-conf --export-sshd"),
    (
        overlay.judge_sshd_conf(SSHD_CONF, "ChrootDirectory /\n", "ChrootDirectory /x/%u # why\n"),
        FAIL,
        "lacks: chrootdirectory /x/%u",
        "broker slurm-conf --export-sshd > /etc/broker/export-sshd.conf",
    ),
    (overlay.judge_sshd_conf(SSHD_CONF, "Port 1\n", "Port 1\nUseDNS no\n"), WARN, "usedns no", "--export-sshd"),
    (overlay.judge_exports([(Path("/e"), None, 0)]), FAIL, "/e is missing", "install -d -o root"),
    (
        overlay.judge_exports([(Path("/e"), "root", 0o755), (Path("/"), "root", 0o777)]),
        FAIL,
        "/ is root's",
        "chmod go-w /",
    ),
    # the providers
    (refusal(CredentialsRefused("401")), FAIL, "refused: 401", "put a valid key"),
    (refusal(ProviderUnavailable("refused")), FAIL, "no answer", "curl -sSI https://cloud.example"),
    (refusal(QuotaExceeded("full")), WARN, "quota is full", "ask the provider"),
    (refusal(RateLimited("slow", retry_after=15)), WARN, "for 15 s", "wait"),
    (credential(trusted=False), WARN, 'trust = "none"', 'trust = "full" in [provider.lambda-a]'),
    (credential(suspended="key revoked"), WARN, "key revoked", "broker provider resume"),
    (credential([made.instance(label="broker-lab-l0123456789-e1")]), WARN, "no living lease", "end them"),
    (limits(max_nodes=0), WARN, "nothing is bought", "max_nodes = 1"),
    (limits(living=2), WARN, "2 of max_nodes = 2", "broker lease list"),
    (limits(max_nodes=None, max_usd_per_hour=None), WARN, "nothing bounds", "max_usd_per_hour"),
    (providers.judge_clock("lambda-a", 90.0), FAIL, "90 s ahead", "chronyc makestep"),
    (providers.judge_clock("lambda-a", -20.0), WARN, "20 s behind", "chronyc makestep"),
    (providers.judge_clock("lambda-a", None), SKIPPED, "no date", None),
    # from a node
    (node.judge_state(a_lease(state=LeaseState.BOOTSTRAPPING)), WARN, "is bootstrapping", "broker why h100-1"),
    (on_node(facts={"gpus": "1", "gpu_0": "NVIDIA A10, 23028"}), FAIL, "NVIDIA A10", "broker lease release"),
    (on_node(facts={"disk_free_mib": "100"}), WARN, "100 MiB free", "df -h /"),
    (on_node(offset_s=-70.0), FAIL, "70.0 s behind ours", "chronyc"),
    (on_node(offset_s=9.0), WARN, "9.0 s ahead of ours", "chronyc"),
    (on_node(interface=None), FAIL, "interface is gone", "broker lease release l0123456789"),
    (on_node(handshake="0"), FAIL, "no handshake", "let UDP to hub.example.org:51820 in"),
    (on_node(handshake="500"), FAIL, "500 s old", "let UDP to hub.example.org:51820 in"),
    (on_node(direct="1 3"), WARN, "1 of the job's 3 other nodes", "let UDP between"),
    (on_node(mtu="1420"), FAIL, "its interface has 1420", "ip link set broker0 mtu 1380"),
    (on_node(large="no answer in 4 s"), FAIL, "1380 bytes do not arrive", "mtu = 1280"),
    (on_node(small="no answer in 4 s", large="no answer in 4 s"), SKIPPED, "a firewall there may drop it", None),
    (on_node(small=None), SKIPPED, "no perl", "see the MTU"),
    (on_node(slurmctld="no answer in 4 s"), FAIL, "10.77.0.1:6817: no answer", "dport 6817 accept"),
    (on_node(slurmctld="refused"), FAIL, "nobody listens", "systemctl start slurmctld"),
    (on_node(slurmctld=None), SKIPPED, "no bash", None),
    (on_node(export="refused"), FAIL, "10.77.0.1:2022 is reached", "systemctl start broker-export-sshd"),
    (on_node(**{"callback ctl": "no answer in 4 s"}), FAIL, "60001-60500: no answer", "dport 60001-60500 accept"),
    (on_node(**{"callback login": "No route to host"}), FAIL, "No route to host", "route login's ports 60001-60500"),
    (on_node(**{"callback ctl": None}), SKIPPED, "no port could be tried", "SrunPortRange=60001-60500"),
    (on_node(slurmd=None), FAIL, "does not run", "slurmd.log"),
    (on_node(slurmd_version="slurm 22.05.2"), WARN, "22.05.2 runs", "next machine"),
    (on_node(munge="unmunge: Error: Invalid credential"), FAIL, "Invalid credential", "munged.log"),
    (on_node(munge=None), SKIPPED, "none could be made", "restart munge"),
    (on_node(dead_man=None), FAIL, "its timer does not run", "broker lease release"),
    (on_node(renewed="300"), WARN, "renewed 700 s ago", "systemctl start broker"),
    (on_node(**{"name ctl": "203.0.113.2"}), FAIL, "ctl resolves to 203.0.113.2", "10.77.0.1 ctl"),
    (on_node(slurm_user=""), FAIL, "slurm is no account there", "broker node-bundle build"),
    (on_node(users="alice:1005:1005 "), FAIL, "alice is 1005:1005 there, 1001:1001 here", "requeue"),
    (on_node(**{"home /home/alice": "does not answer"}), FAIL, "/home/alice does not answer", "broker-export-sshd"),
]

WELL = [
    daemon(),
    activities(),
    site.judge_activities(status(activities={"renew": LONG_AGO}), NOON),
    site.judge_knock(Path("/s/knock"), True),
    site.judge_intents(Path("/s"), [5.0], 0, True),
    site.judge_space(Path("/s"), 99999),
    site.judge_ledger("broker.db", "0002", "0002", True),
    leases(state=LeaseState.READY),
    leases(state=LeaseState.BOOTSTRAPPING, deadline=NOON + timedelta(hours=2)),
    access.judge(INTENTS, made.entry("/s/intents", 0o2770, "slurm", "broker", "folder")),
    slurm.judge_program(SHIM, SHIM_AT, made.entry("s", 0o755), "ours", INSTALL),
    slurm.judge_link(Path("/r"), "shim.py", INSTALL),
    slurm.judge_running(conf("ResumeTimeout=1500"), {"ResumeTimeout": "1500 sec"}),
    slurm.judge_version("22.05.8", "22.05.8"),
    slurm.judge_rights("slurm", "slurm", False, None),
    slurm.judge_rights("broker", "slurm", True, ran("Administrator\n")),
    slurm.judge_addresses(ADDRESSES, {"h100-1": "10.77.0.2", "h100-2": "10.77.0.3"}),
    slurm.judge_plugins(conf("AuthType=auth/munge\nMpiDefault=none\nTaskPlugin=task/none"), PACKED),
    slurm.judge_plugstack(Path("/p"), None),
    slurm.judge_plugstack(Path("/p"), "# required x.so\noptional y.so\n"),
    keys.judge_munge(ran()),
    munge_key(made.entry("k", 0o400)),
    munge_key(made.entry("k", 0o440, "munge", "broker"), same=None),
    keys.judge_ssh_key(Path("/k"), made.entry("/k", 0o600)),
    users(),
    keys.judge_arch(made.bundle(), "x86_64"),
    interface(),
    overlay.judge_hub(Hub(public_key="k", listen_port=51820), "h:51820"),
    reach(made.peer("10.77.0.2", 100)),
    overlay.judge_names(ADDRESSES, {"h100-1": "10.77.0.2", "h100-2": "10.77.0.3"}),
    overlay.judge_path("h100-1", 1380, None, None),
    overlay.judge_port("p", "h:1", None, "do"),
    sshd(),
    overlay.judge_sshd_conf(SSHD_CONF, "  port 1  # our own\nBanner x\n", "Port 1\n"),
    overlay.judge_exports([(Path("/e"), "root", 0o755), (Path("/"), "root", 0o755)]),
    credential([made.instance(label="somebody-elses")]),
    limits(living=1),
    providers.judge_clock("lambda-a", 0.0),
    node.judge_state(a_lease(state=LeaseState.READY)),
    on_node(),
    on_node(**{"callback login": "refused", "callback ctl": "refused"}),
    on_node(users="ubuntu:1000:1000 ", wanted={"users": {"ubuntu": (5000, 5000)}}),
]


def listed(found: Finding | list[Finding]) -> list[Finding]:
    return [found] if isinstance(found, Finding) else found


@pytest.mark.parametrize(("found", "stands", "seen", "mend"), FAULTS, ids=[row[2] for row in FAULTS])
def test_a_fault_is_told_with_its_mend(found, stands, seen, mend):
    told = [each for each in listed(found) if each.status is stands and seen in each.seen]
    assert told, [(each.status, each.seen) for each in listed(found) if each.status is not Status.OK]
    assert any(mend is None or mend in (each.mend or "") for each in told), told


@pytest.mark.parametrize("found", WELL)
def test_what_is_well_is_said_to_be(found):
    assert [each for each in listed(found) if each.status is not Status.OK] == []


def test_a_machine_that_answers_nonsense_breaks_no_check():
    nonsense = dict.fromkeys(made.answers(), "\x1b]0;x\x07-1e9")
    found = node.judge(made.asked(facts={"epoch": "soon", "disk_free_mib": "²"}, **nonsense), made.wanted())
    assert {each.status for each in found} >= {FAIL}
    assert node.judge(made.asked(facts={}, **dict.fromkeys(made.answers())), made.wanted())


def test_one_fault_of_a_node_is_one_finding():
    faults = [found for found, _, _, _ in FAULTS if listed(found)[0].name == "machine"]
    assert len(faults) > 15
    assert all(sum(each.status is not Status.OK for each in listed(found)) == 1 for found in faults)
