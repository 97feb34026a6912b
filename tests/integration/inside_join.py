"""Run by test_join.py as root of namespaces of its own."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from time import monotonic, sleep

import pytest
from integration.rigs import Controller, Machine, sh, until

from broker.core.demand import Shape
from broker.core.errors import NodeUnreachable, StepFailed
from broker.privileged.client import PrivilegedClient
from broker.provisioning import bundle, ssh
from broker.provisioning.base import Step
from broker.provisioning.keys import client_key, new_host_key, user_data
from broker.provisioning.run import run_join, run_step
from broker.provisioning.ssh import open_shell
from broker.provisioning.steps import JobOnNode, JoinPlan, drain_steps, end_job_steps, renew_step, start_job_steps

WORK = Path("/run/rig")
SHAPE = Shape(
    name="h100", partition="cloud", accelerator="H100", accelerator_count=1, cpus=1, memory_gib=1, disk_gib=0, nodes=2
)
NODE_KEY = (
    "-F /dev/null -i /etc/broker-node/home_ed25519_key -o BatchMode=yes "
    "-o UserKnownHostsFile=/etc/broker-node/known_hosts"
)
SFTP = f"sftp -b - -P 2022 {NODE_KEY}"
AS_ALICE = "setpriv --reuid 1001 --regid 1001 --init-groups env HOME=/home/alice"
MUNGE_KEY = os.urandom(128)


class Rig:
    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.hub_key = self.controller.hub()
        self.net = PrivilegedClient(self.controller.net_domain())
        self.as_user = PrivilegedClient(self.controller.as_user_domain())
        self.export_host_key = self.controller.export_sshd()
        self.bundle = bundle.build(WORK / "bundle")
        self.key_file, self.public_key = client_key(WORK / "ssh")
        self.host_private, self.host_public = new_host_key()
        self.slurmctld()
        self.machine = Machine(WORK, 10, "NVIDIA H100 80GB HBM3, 81559", self.public_key, user_data(self.host_private))

    def slurmctld(self) -> None:
        (WORK / "munge").mkdir(mode=0o700)
        (WORK / "munge" / "key").write_bytes(MUNGE_KEY)
        (WORK / "slurm.conf").write_text(
            f"""
            ClusterName=rig
            SlurmctldHost=ctl(10.77.0.1)
            SlurmUser=slurm
            AuthType=auth/munge
            StateSaveLocation={WORK}/state
            SlurmdSpoolDir=/var/spool/slurmd
            SlurmctldPidFile={WORK}/state/ctld.pid
            SlurmdPidFile=/run/slurmd.pid
            SlurmctldLogFile={WORK}/state/ctld.log
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            SelectType=select/cons_tres
            MpiDefault=none
            SlurmdParameters=config_overrides
            SlurmctldParameters=enable_configless,idle_on_node_suspend
            ReturnToService=2
            ResumeProgram=/bin/true
            SuspendProgram=/bin/true
            SuspendTime=600
            SuspendTimeout=5
            AccountingStorageType=accounting_storage/none
            ResumeTimeout=120
            GresTypes=gpu
            NodeName=h100-[1-2] NodeAddr=10.77.0.[2-3] CPUs=2 RealMemory=500 Gres=gpu:1 State=CLOUD
            PartitionName=cloud Nodes=h100-[1-2] Default=YES MaxTime=INFINITE State=UP ExclusiveUser=YES
            """.replace("            ", "")
        )
        (WORK / "gres.conf").write_text("NodeName=h100-[1-2] Name=gpu File=/dev/null\n")
        (WORK / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 ctl\n10.77.0.2 h100-1\n10.77.0.3 h100-2\n")
        sh(
            f"""
            mount --bind {WORK}/hosts /etc/hosts
            chown -R munge: {WORK}/munge /run/munge; chmod 400 {WORK}/munge/key
            runuser -u munge -- /usr/sbin/munged --key-file={WORK}/munge/key --log-file={WORK}/munge/log \
                --seed-file={WORK}/munge/seed --pid-file=/run/munge/munged.pid >/dev/null 2>&1
            mkdir {WORK}/state; chown slurm {WORK}/state
            """
        )
        os.environ["SLURM_CONF"] = str(WORK / "slurm.conf")
        self.controller.start("/usr/sbin/slurmctld", "-c", "-D", "-f", str(WORK / "slurm.conf"))
        until(lambda: "UP" in sh("scontrol ping || true"), what="slurmctld")

    def open(self, pin: str, machine: Machine | None = None, other: str | None = None):  # type: ignore[no-untyped-def]
        return open_shell(
            address=(machine or self.machine).address,
            port=22,
            user="ubuntu",
            key_file=self.key_file,
            host_key=pin,
            other_host_key=other,
            transcript=WORK / "boot.log",
        )

    def reachable(self, pin: str, machine: Machine | None = None) -> bool:
        try:
            self.open(pin, machine).close()
        except NodeUnreachable:
            return False
        return True

    def plan(self, node: str = "h100-1", address: str = "10.77.0.2", **changes: object) -> JoinPlan:
        values = {
            "node": node,
            "shape": SHAPE,
            "address": IPv4Address(address),
            "cidr": IPv4Network("10.77.0.0/24"),
            "hub": IPv4Address("10.77.0.1"),
            "hub_public_key": self.hub_key,
            "hub_endpoint": "203.0.113.1:51820",
            "export_host_key": self.export_host_key,
            "bundle": self.bundle,
            "munge_key": MUNGE_KEY,
            "dead_man": timedelta(minutes=10),
            "hosts": {"ctl": "10.77.0.1", "h100-2": "10.77.0.3"},
            **changes,
        }
        return JoinPlan(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    controller = Controller(WORK)
    try:
        yield Rig(controller)
    finally:
        controller.stop()


DONE: dict[str, dict[str, str]] = {}


def test_a_machine_that_answers_with_another_host_key_is_not_ours(rig: Rig) -> None:
    until(lambda: rig.reachable(rig.host_public), what="the machine's sshd with our key")

    with pytest.raises(NodeUnreachable, match="another host key"):
        rig.open(new_host_key()[1])


def test_a_step_that_takes_too_long_fails_and_the_next_one_runs(rig: Rig) -> None:
    with rig.open(rig.host_public) as shell:
        with pytest.raises(StepFailed, match="step slow took longer than 1 s: begun"):
            shell.run(Step(name="slow", script="echo begun; sleep 60", timeout_s=1))
        with pytest.raises(StepFailed, match="step bad ended with 3: no newline"):
            shell.run(Step(name="bad", script="printf 'no newline'; exit 3", timeout_s=5))

        answer = shell.run(
            Step(name="next", script='out=$(cat); echo "@out n=${#out}"', timeout_s=5, stdin=b"a\n\xff" * 3)
        )

    assert answer.outputs == {"n": "9"}
    assert answer.text == ""
    assert "broker-steps" not in rig.machine.inside("ls /run")


def test_a_connection_that_is_cut_in_a_step_is_not_the_machines_fault(rig: Rig) -> None:
    with rig.open(rig.host_public) as shell, pytest.raises(NodeUnreachable, match="in step cut"):
        shell.run(Step(name="cut", script="pkill -f 'sshd: ubuntu'; sleep 20", timeout_s=5))


def test_a_line_that_goes_dead_in_a_step_is_known_long_before_the_steps_limit(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_CUT_S", 2)
    monkeypatch.setattr(ssh, "_KEEPALIVE_S", 1)
    began = monotonic()
    with rig.open(rig.host_public) as shell:
        try:
            sh(f"ip link set {rig.machine.name} nomaster")
            with pytest.raises(NodeUnreachable, match="in step waits"):
                shell.run(Step(name="waits", script="sleep 290", timeout_s=300))
        finally:
            sh(f"ip link set {rig.machine.name} master internet")
    # Slower only on a machine that hangs: without the bound the step's own limit, 310 s, would say it.
    assert monotonic() - began < 150


def test_a_join_ends_with_a_node_that_slurm_sees(rig: Rig) -> None:
    def on_step(name: str, outputs: dict[str, str], seconds: float) -> None:
        assert seconds < 10
        DONE[name] = outputs

    sh("scontrol update nodename=h100-1 state=power_up")
    with rig.open(rig.host_public) as shell:
        run_join(shell, rig.plan(), {}, on_step, lambda key: rig.net.set_peer(key, "10.77.0.2"))

    until(lambda: "State=IDLE+CLOUD " in sh("scontrol -o show node h100-1"), what="h100-1 registered")
    assert DONE["host_key"]["public_key"] != rig.host_public
    assert not rig.reachable(rig.host_public), "the one-use key is gone"
    assert rig.reachable(DONE["host_key"]["public_key"])
    assert rig.machine.inside("ls -l /etc/munge/munge.key").startswith("-r--------")


def test_a_join_that_was_cut_goes_on_and_may_be_run_again_from_its_start(rig: Rig) -> None:
    ran: list[str] = []
    peers: list[str] = []
    half = {name: DONE[name] for name in ("host_key_made", "host_key", "facts", "bundle", "identities", "overlay")}

    with rig.open(rig.host_public, other=DONE["host_key_made"]["public_key"]) as shell:
        for done in (half, {}, DONE):
            run_join(shell, rig.plan(), done, lambda name, _outputs, _seconds: ran.append(name), peers.append)

    names = list(DONE)
    assert ran == names[6:] + names
    assert peers == [DONE["overlay"]["public_key"]] * 2, "the key stays the same, and a finished join adds nobody"
    until(lambda: "State=IDLE+CLOUD " in sh("scontrol -o show node h100-1"), what="h100-1 registered again")


def test_a_job_runs_there_as_its_user_with_its_home_and_no_other(rig: Rig) -> None:
    home = rig.as_user.export_home("alice", "l0123456789", DONE["home_key"]["public_key"], "10.77.0.2")
    job = JobOnNode(job_id=1, home=home, until=datetime.now(UTC) + timedelta(minutes=5))
    with rig.open(DONE["host_key"]["public_key"]) as shell:
        for _ in range(2):
            for step in start_job_steps(job):
                run_step(shell, step)

    script = """#!/bin/bash
    id; env | grep -c LD_LIBRARY_PATH; ls -A /home; ls /home/bob/diary
    srun --mpi=none bash -c 'echo task of $(id -un) on $(hostname) in $PWD'
    dd if=/dev/zero of=large bs=1M count=20 status=none; echo done
    """
    (WORK / "job.sh").write_text(script)
    sh(f"cd /home/alice && {AS_ALICE} sbatch -o out {WORK}/job.sh")
    until(lambda: "COMPLETED" in sh("scontrol show job 1 | grep JobState"), what="the job's end")
    printed = Path("/home/alice/out").read_text()
    assert "uid=1001(alice) gid=1001(alice) groups=1001(alice),1010(science)" in printed
    assert "task of alice on h100-1 in /home/alice" in printed
    assert "cannot access '/home/bob/diary'" in printed
    assert printed.splitlines()[-1] == "done"
    assert Path("/home/alice/large").stat().st_size == 20 * 1024**2
    assert Path("/home/alice/large").stat().st_uid == 1001


def test_srun_from_the_controller_talks_to_the_node(rig: Rig) -> None:
    said = sh(f"cd /home/alice && {AS_ALICE} srun --mpi=none -n1 hostname")

    assert said.strip() == "h100-1"


def test_the_images_user_keeps_its_rights_and_the_jobs_user_gets_none_of_them(rig: Rig) -> None:
    passwd = rig.machine.inside("cat /etc/passwd; stat -c %U /home/ubuntu/.ssh; id ubuntu")

    assert "alice:*:1001:1001:Alice:/home/alice:/bin/bash" in passwd
    assert "ubuntu:x:70001:70002:" in passwd and "uid=70001(ubuntu)" in passwd


def test_the_node_reaches_the_home_of_its_job_and_no_other(rig: Rig) -> None:

    assert "out" in rig.machine.inside(f"echo 'ls /home' | {SFTP} alice@10.77.0.1")
    for refused in ("bob@10.77.0.1", "root@10.77.0.1"):
        with pytest.raises(AssertionError, match="Permission denied"):
            rig.machine.inside(f"echo 'ls /home' | {SFTP} {refused}")
    assert "uid=" not in rig.machine.inside(f"ssh -p 2022 {NODE_KEY} alice@10.77.0.1 id 2>&1 || true")


def test_when_its_last_job_ends_nothing_of_the_user_stays(rig: Rig) -> None:
    rig.machine.inside(
        "setpriv --reuid 1001 --regid 1001 --clear-groups setsid sleep 1000 </dev/null >/dev/null 2>&1 & "
    )
    with rig.open(DONE["host_key"]["public_key"]) as shell:
        for _ in range(2):
            for step in end_job_steps("alice"):
                assert "busy" not in run_step(shell, step)
    rig.as_user.unexport_home("alice", "l0123456789")

    left = rig.machine.inside("cat /etc/passwd /etc/group /proc/mounts; ls /run/broker-node; ps aux")
    assert "alice" not in left and "fuse.sshfs" not in left and "job-until" not in left and "sleep 1000" not in left
    assert rig.as_user.exports() == []
    assert "exports" not in Path("/proc/self/mounts").read_text()
    with pytest.raises(AssertionError, match="Permission denied"):
        rig.machine.inside(f"echo 'ls /home' | {SFTP} alice@10.77.0.1")


def test_an_image_account_of_the_same_name_is_refused(rig: Rig) -> None:
    home = rig.as_user.export_home("bob", "l0123456780", DONE["home_key"]["public_key"], "10.77.0.2")
    rig.machine.inside("echo bob:x:4000:4000::/home/bob:/bin/sh >>/etc/passwd")
    with (
        rig.open(DONE["host_key"]["public_key"]) as shell,
        pytest.raises(StepFailed, match="account of its own called bob"),
    ):
        for step in start_job_steps(JobOnNode(job_id=2, home=home, until=datetime.now(UTC))):
            run_step(shell, step)
    rig.machine.inside("sed -i /^bob:/d /etc/passwd")
    rig.as_user.unexport_home("bob", "l0123456780")


def test_a_fenced_node_reaches_nothing(rig: Rig) -> None:
    rig.net.remove_peer(DONE["overlay"]["public_key"])

    assert rig.net.peers() == []
    with pytest.raises(AssertionError):
        rig.machine.inside("timeout 2 bash -c 'exec 3<>/dev/tcp/10.77.0.1/6817'")


def test_a_drained_node_has_no_slurmd(rig: Rig) -> None:
    with rig.open(DONE["host_key"]["public_key"]) as shell:
        for step in drain_steps():
            run_step(shell, step)

    assert "slurmd" not in rig.machine.inside("ps ax -o args | grep -v dead_man")


def test_the_dead_man_leaves_a_job_alone_and_ends_an_idle_machine_that_nobody_renews(rig: Rig) -> None:
    rig.net.set_peer(DONE["overlay"]["public_key"], "10.77.0.2")
    rest = {name: outputs for name, outputs in DONE.items() if name not in ("overlay_up", "dead_man", "slurmd")}
    home = rig.as_user.export_home("alice", "l0123456781", DONE["home_key"]["public_key"], "10.77.0.2")
    job = JobOnNode(job_id=3, home=home, until=datetime.now(UTC) + timedelta(minutes=5))
    with rig.open(DONE["host_key"]["public_key"]) as shell:
        run_join(shell, rig.plan(), rest, lambda *_: None, lambda _: None)
        for step in start_job_steps(job):
            run_step(shell, step)
        until(lambda: "State=IDLE+CLOUD " in sh("scontrol -o show node h100-1"), what="h100-1 registered again")
        sh(f"cd /home/alice && {AS_ALICE} sbatch -o /dev/null --wrap 'touch begun; sleep 1000'")
        until(Path("/home/alice/begun").exists, what="the job's start")

        # With the job as the only reason to live.
        run_join(
            shell,
            rig.plan(dead_man=timedelta(seconds=6)),
            rest | {"overlay_up": {}, "slurmd": {}},
            lambda *_: None,
            lambda _: None,
        )
        sleep(8)
        assert rig.machine.process.poll() is None, "its job has a right to go on"
        sh("scancel --user alice")
        until(lambda: "slurmstepd: [" not in rig.machine.inside("ps ax -o args"), what="the job's end")

        # With us as the only reason.
        for _ in range(20):
            run_step(shell, renew_step())
            sleep(0.2)
            assert rig.machine.process.poll() is None, "renewed, so it lives"
    until(lambda: rig.machine.process.poll() is not None, 40, "the machine's end")
    assert not rig.reachable(DONE["host_key"]["public_key"])
