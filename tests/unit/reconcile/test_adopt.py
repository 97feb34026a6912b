"""A backup that is older than the world: whatever happened since, no job is lost, and no machine is lost or bought twice."""

import io
from datetime import timedelta

import pytest
from factories import a_job

from broker.core.errors import NodeUnreachable, ProviderUnavailable, Refused
from broker.core.leases import label_for
from broker.core.offers import InstanceSpec
from broker.core.usage import UsageKind
from broker.db import jobs, leases, steps, usage
from broker.db.backup import dump, read
from broker.db.engine import reading
from broker.ledger import bring_back
from broker.reconcile.sweep import Sweep
from broker.services import purchases


class Site:
    """A rig whose ledger is backed up, lost and restored."""

    def __init__(self, rig, tmp_path):
        self.rig = rig
        self.folder = tmp_path
        for number, machine in enumerate(rig.machines.machines.values(), start=1):
            machine.outputs["overlay"] = {"public_key": f"key-{number}", "listen_port": "51820"}
            rig.net.endpoints[f"key-{number}"] = f"192.0.2.{number}:51820"

    def backup(self):
        out = io.BytesIO()
        dump(self.rig.world.engine, "test", self.rig.clock(), out)
        self.rig.clock.pass_seconds(1)
        return read("backup", out.getvalue())

    def runs(self, node="h100-1", job_id=7):
        """A job of alice runs on a machine behind the node."""
        for machine in self.rig.machines.machines.values():
            machine.outputs["facts"]["epoch"] = str(int(self.rig.clock().timestamp()))
        self.rig.slurm.job_table[job_id] = a_job(id=job_id, nodes=(node,))
        self.rig.ask(node, job_id)
        self.rig.until(lambda: self.joined(node))
        self.rig.slurm.set_node(node, "ALLOCATED", "CLOUD")
        self.rig.until(lambda: self.holder(node).state == "ready")
        self.job_starts(node, job_id)
        return self.holder(node)

    def joined(self, node):
        held = self.holder(node)
        if held is None:
            return False
        with reading(self.rig.world.engine) as db:
            return "slurmd" in steps.of_lease(db, held.id)

    def job_starts(self, node, job_id):
        """What the waiter would have led to."""
        held = self.holder(node)
        with self.rig.world.engine.begin() as db:
            jobs.attend(db, job_id, held.id, "alice", self.rig.clock())
            jobs.mounted(db, job_id, held.id, self.rig.clock())
        self.rig.as_user.export_home("alice", held.id, "key", str(self.rig.world.site.addresses[node]))
        self.rig.slurm.job_table[job_id] = a_job(id=job_id, nodes=(node,), state="RUNNING")

    def holder(self, node):
        with reading(self.rig.world.engine) as db:
            return leases.holding(db, node)

    def restore(self, saved, *, force=True, dry_run=False, scan=lambda address, port: "ssh-ed25519 AAAAscanned"):
        return bring_back(self.rig.world, saved, force=force, dry_run=dry_run, copies=self.folder, scan=scan)

    def fates(self, done):
        return {verdict.lease.id: verdict.fate.value for verdict in done.survey.verdicts}

    def let_go(self, *nodes):
        """Slurm idles the nodes, their jobs have ended; every machine is gone at the end."""
        for job in list(self.rig.slurm.job_table.values()):
            self.rig.slurm.job_table[job.id] = a_job(id=job.id, nodes=job.nodes, state="COMPLETED")
        for node in nodes:
            held = self.holder(node)
            if held is not None:
                with self.rig.world.engine.begin() as db:
                    purchases.give_up(db, leases.get(db, held.id), "idle", self.rig.clock())
        self.rig.clock.pass_seconds(60)
        self.rig.until(lambda: set(self.rig.states()) <= {"released"}, 60)
        assert self.rig.instances() == []
        assert self.rig.as_user.keys == {}


@pytest.fixture
def site(rig, tmp_path):
    return Site(rig, tmp_path)


def bought(rig):
    return [spec.label for provider in rig.providers.values() for spec in provider.created]


def test_a_machine_bought_after_the_backup_is_adopted_with_its_job(site):
    first = site.runs("h100-1", 7)
    saved = site.backup()
    second = site.runs("h100-2", 8)
    done = site.restore(saved)

    assert site.fates(done) == {first.id: "kept", second.id: "adopted"}
    adopted = site.holder("h100-2")
    assert (adopted.id, adopted.state, adopted.job_id) == (second.id, "ready", 8)
    assert (adopted.instance_id, adopted.address, adopted.label) == (second.instance_id, second.address, second.label)
    assert (adopted.price_per_hour, adopted.offer_id) == (second.price_per_hour, second.offer_id)
    assert (adopted.overlay_key, adopted.host_key) == (second.overlay_key, "ssh-ed25519 AAAAscanned")
    with reading(site.rig.world.engine) as db:
        start = usage.of_lease(db, second.id)[UsageKind.START]
        assert {(job.job_id, job.lease_id) for job in jobs.open_jobs(db)} == {(7, first.id), (8, second.id)}
        assert steps.of_lease(db, second.id).keys() >= {"home_key", "overlay", "slurmd"}
    assert saved.header.taken_at == start.not_before < start.not_after
    assert len(bought(site.rig)) == 2
    site.let_go("h100-1", "h100-2")


def moments():
    """A node's life, cut after each of its steps: how many passes were made before the backup."""
    return range(0, 9)


@pytest.mark.parametrize("passes", moments())
def test_a_backup_of_any_moment_of_a_purchase_finds_its_machine_again(site, passes):
    rig = site.rig
    rig.slurm.job_table[7] = a_job()
    rig.ask("h100-1", 7)
    for _ in range(passes):
        rig.step()
    saved = site.backup()
    rig.until(lambda: site.joined("h100-1"))
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    rig.until(lambda: site.holder("h100-1").state == "ready")
    site.job_starts("h100-1", 7)
    lease = site.holder("h100-1")

    site.restore(saved)
    for _ in range(10):
        rig.step()

    held = site.holder("h100-1")
    assert (held.id, held.state, held.instance_id) == (lease.id, "ready", lease.instance_id)
    assert len(bought(rig)) == 1 and rig.instances() == [lease.instance_id]
    site.let_go("h100-1")


def test_a_restored_wish_is_not_bought_under_its_old_label(site):
    rig = site.rig
    lease = rig.ask("h100-1", 7)
    saved = site.backup()
    # Bought since, and the daemon died before the provider listed the machine.
    label = label_for("test", lease.id, 1)
    done = site.restore(saved)
    for _ in range(5):
        rig.step()
    rig.providers["lambda-a"].create(
        InstanceSpec(label=label, instance_type="gpu_1x_h100_sxm5", zone="us-east-1", user_data="", ssh_public_key="")
    )
    sweep = Sweep(rig.world, grace=timedelta(0))

    assert site.fates(done) == {lease.id: "dropped"}
    for _ in range(3):
        sweep.instances(rig.providers["lambda-a"])
        rig.clock.pass_seconds(1)
    rig.until(lambda: rig.instances() == [], 10)
    assert bought(rig) == [label]


def test_a_wish_of_the_backup_whose_machine_is_no_node_yet_is_given_back(site):
    rig = site.rig
    lease = rig.ask("h100-1", 7)
    saved = site.backup()
    rig.until(lambda: site.holder("h100-1").state == "bootstrapping")
    done = site.restore(saved)

    assert site.fates(done) == {lease.id: "ended"}
    rig.clock.pass_seconds(60)
    rig.until(lambda: rig.states() == ["released"])
    assert rig.instances() == [] and len(bought(rig)) == 1


@pytest.mark.parametrize("why", ["no peer", "not up", "no host key", "no shell"])
def test_a_machine_whose_node_cannot_be_found_is_given_back(site, why):
    rig = site.rig
    saved = site.backup()
    lease = site.runs("h100-1", 7)

    def scan(address, port):
        if why == "no host key":
            raise NodeUnreachable("no answer")
        return "ssh-ed25519 AAAAscanned"

    if why == "no peer":
        rig.net.by_address.clear()
    if why == "not up":
        rig.slurm.set_node("h100-1", "DOWN", "CLOUD", "NOT_RESPONDING")
    if why == "no shell":
        for machine in rig.machines.machines.values():
            machine.unreachable = "gone"
    done = site.restore(saved, scan=scan)

    assert site.fates(done) == {lease.id: "ended"}
    assert site.holder("h100-1") is None
    with reading(rig.world.engine) as db:
        ended = leases.get(db, lease.id)
    assert (ended.state, ended.instance_id) == ("releasing", lease.instance_id)
    site.let_go()


def test_the_machine_that_holds_the_nodes_address_is_the_node(site):
    rig = site.rig
    first = site.runs("h100-1", 7)
    saved = site.backup()
    site.let_go("h100-1")
    second = site.runs("h100-1", 8)
    done = site.restore(saved)

    assert site.fates(done) == {first.id: "ended", second.id: "adopted"}
    assert site.holder("h100-1").id == second.id
    for _ in range(3):
        rig.step()
    assert rig.instances() == [second.instance_id]
    site.let_go("h100-1")


def test_a_lease_whose_machine_is_gone_is_ended_and_its_usage_has_an_end(site):
    first = site.runs("h100-1", 7)
    saved = site.backup()
    site.let_go("h100-1")
    done = site.restore(saved)

    assert site.fates(done) == {first.id: "ended"}
    site.rig.clock.pass_seconds(60)
    site.rig.until(lambda: site.rig.states() == ["released"])
    with reading(site.rig.world.engine) as db:
        assert usage.of_lease(db, first.id).keys() == {UsageKind.START, UsageKind.END}


def test_a_home_brought_after_the_backup_is_taken_away_when_its_job_ends(site):
    rig = site.rig
    first = site.runs("h100-1", 7)
    saved = site.backup()
    rig.as_user.export_home("bob", first.id, "key", "10.77.0.2")  # its job has ended already
    rig.slurm.job_table[9] = a_job(id=9, nodes=("h100-1",), state="RUNNING", user="alice")
    done = site.restore(saved)

    assert [stray.user for stray in done.survey.strays] == ["bob"]
    assert rig.as_user.keys.keys() == {("alice", first.id)}
    with reading(rig.world.engine) as db:
        assert {job.job_id for job in jobs.open_jobs(db)} == {7, 9}
    site.let_go("h100-1")


def test_a_machine_without_our_label_is_not_touched(site):
    rig = site.rig
    saved = site.backup()
    for label in ("somebody", label_for("other", "l0123456789", 1)):
        rig.providers["lambda-a"].create(
            InstanceSpec(label=label, instance_type="t", zone="z", user_data="", ssh_public_key="")
        )
    assert site.restore(saved).survey.verdicts == ()
    assert len(rig.instances()) == 2


def test_when_a_provider_does_not_answer_nothing_is_changed(site, monkeypatch):
    rig = site.rig
    saved = site.backup()
    lease = site.runs("h100-1", 7)

    def away():
        raise ProviderUnavailable("lambda-b is away")

    monkeypatch.setattr(rig.providers["lambda-b"], "instances", away)
    with pytest.raises(ProviderUnavailable):
        site.restore(saved)
    assert site.holder("h100-1").id == lease.id


def test_living_leases_are_not_overwritten_unless_told_so_and_then_a_copy_is_kept(site):
    saved = site.backup()
    lease = site.runs("h100-1", 7)
    with pytest.raises(Refused, match="1 living leases"):
        site.restore(saved, force=False)
    done = site.restore(saved)

    copy = read("copy", done.kept_copy.read_bytes())
    assert [row["id"] for table, row in copy.rows if table == "leases"] == [lease.id]
    assert done.kept_copy.stat().st_mode & 0o777 == 0o600


def test_a_dry_run_says_the_same_and_changes_nothing(site):
    saved = site.backup()
    lease = site.runs("h100-1", 7)
    planned = site.restore(saved, dry_run=True)
    assert site.holder("h100-1") == lease
    assert planned.kept_copy is None

    assert site.fates(site.restore(saved)) == site.fates(planned) == {lease.id: "adopted"}


def test_a_restore_may_be_repeated(site):
    first = site.runs("h100-1", 7)
    saved = site.backup()
    second = site.runs("h100-2", 8)
    once, twice = site.restore(saved), site.restore(saved)

    assert site.fates(once) == site.fates(twice) == {first.id: "kept", second.id: "adopted"}
    assert len(bought(site.rig)) == 2
    site.let_go("h100-1", "h100-2")
