"""What still costs money after an end is found and removed; what belongs to others is never touched."""

from datetime import timedelta

import pytest
from factories import a_lease
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from broker.core.leases import LeaseState, label_for
from broker.core.offers import InstanceSpec, InstanceState
from broker.core.residue import Residue
from broker.db import leases, residue
from broker.db.engine import reading
from broker.reconcile import release
from broker.reconcile.residue import Residues, is_left
from broker.reconcile.sweep import Sweep

GRACE = timedelta(seconds=60)
LIVING, DEAD = "l00000000aa", "l00000000bb"
OURS = label_for("test", DEAD, 1)


@pytest.fixture
def ledger(rig):
    """One living lease, and one that was released."""
    with rig.world.engine.begin() as db:
        for lease_id, state, node in ((LIVING, LeaseState.LAUNCHING, "h100-1"), (DEAD, LeaseState.RELEASED, "h100-2")):
            leases.add(db, a_lease(id=lease_id, state=state, node=node), "asked", rig.clock())
    return rig


def a_disk(label, number=1):
    return Residue(kind="disk", id=f"disk-{number}", label=label, said="50 GiB at 0.01 USD/h")


def look(rig, residues, times=2):
    for _ in range(times):
        for task in residues.find():
            task.run()
        rig.clock.pass_seconds(GRACE.total_seconds())


def found(rig, provider="lambda-a"):
    with reading(rig.world.engine) as db:
        return residue.latest(db, provider, 10)


def test_a_disk_of_a_lease_that_ended_is_removed_after_the_grace_and_written_down(ledger):
    provider = ledger.providers["lambda-a"]
    provider.left = {"disk-1": a_disk(OURS), "disk-2": a_disk(label_for("test", LIVING, 1), 2)}
    residues = Residues(ledger.world, GRACE)
    look(ledger, residues, 1)
    assert provider.removed == []
    look(ledger, residues, 2)
    assert provider.removed == ["disk-1"]
    ((left, removed_at),) = [(each.left, each.removed_at) for each in found(ledger)]
    assert (left.kind, left.thing, left.label, left.said) == ("disk", "disk-1", OURS, "50 GiB at 0.01 USD/h")
    assert removed_at is not None


def test_a_removal_is_an_end_only_when_the_provider_no_longer_lists_it(ledger):
    provider = ledger.providers["lambda-a"]
    provider.left = {"disk-1": a_disk(OURS)}
    provider.remove_residue = lambda left: None  # taken, and slow
    residues = Residues(ledger.world, GRACE)
    look(ledger, residues, 3)
    assert [each.removed_at for each in found(ledger)] == [None]
    provider.left = {}
    look(ledger, residues, 1)
    assert found(ledger)[0].removed_at is not None


def test_a_stopped_machine_of_a_released_lease_goes_on_costing_and_is_ended(ledger):
    """A marketplace's stopped contract is charged for its disk."""
    provider = ledger.providers["lambda-a"]
    instance = provider.create(a_spec(OURS))
    provider.set_state(instance.id, InstanceState.STOPPED)
    sweep = Sweep(ledger.world, GRACE)
    for _ in range(4):
        sweep.instances(provider)
        ledger.step(release)
        ledger.clock.pass_seconds(GRACE.total_seconds())
    assert provider.instances() == []
    ((left, removed_at),) = [(each.left, each.removed_at) for each in found(ledger)]
    assert (left.kind, left.thing) == ("instance", instance.id)
    assert removed_at is not None


def a_spec(label):
    return InstanceSpec(label=label, instance_type="t", zone="z", user_data="", ssh_public_key="ssh-ed25519 A")


def near(label):
    """Texts that differ from `label` by little."""
    return some.sampled_from(
        [
            label + "\n",
            label + " ",
            " " + label,
            label.upper(),
            label.replace("-e1", "-e01"),
            label.replace("-e1", "-e١"),
            label.replace("-e1", ""),
            label.replace("-e1", "-e1-copy"),
            label.replace("broker-", "broker-test-"),
            label.replace("broker-", "mybroker-"),
            label.replace("broker-test-", "broker-test-2-"),
            label.replace("broker-test-", "broker-tes-"),
            label.replace("broker-test-", "broker-"),
            label.replace("broker-test-", f"broker-test-{DEAD}-e1-"),
            label.replace(DEAD, DEAD[:-1]),
            label.replace(DEAD, DEAD + "0"),
        ]
    )


LEASE_IDS = some.from_regex(r"l[0-9a-f]{10}", fullmatch=True)
EXACT = some.builds(label_for, some.just("test"), LEASE_IDS | some.just(DEAD), some.integers(0, 99))
OTHERS = some.builds(
    label_for, some.from_regex(r"test-[a-z0-9]{1,8}|tes|[a-z]{5,9}", fullmatch=True), LEASE_IDS, some.integers(0, 99)
)
LABELS = some.lists(EXACT | OTHERS | near(OURS) | some.none() | some.text() | some.just(label_for("test", LIVING, 1)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(labels=LABELS)
def test_whatever_lies_at_the_provider_only_our_own_leavings_are_touched(ledger, labels):
    provider = ledger.providers["lambda-a"]
    provider._instances.clear()
    provider.left = {f"disk-{number}": a_disk(label, number) for number, label in enumerate(labels)}
    machines = {provider.create(a_spec(label)).id: label for label in labels}
    disks = {each.id: each.label for each in provider.left.values()}
    residues, sweep = Residues(ledger.world, GRACE), Sweep(ledger.world, GRACE)
    for _ in range(3):
        look(ledger, residues, 1)
        sweep.instances(provider)
        ledger.step(release)
    left = {each.id for each in provider.instances()} | set(provider.left)
    for thing, label in (machines | disks).items():
        # Said in another way than the code does it: a label is ours when we could have written it ourselves.
        parts = (label or "").removeprefix("broker-test-").split("-e")
        ours = len(parts) == 2 and parts[1].isascii() and parts[1].isdecimal() and is_written_by_us(label, *parts)
        assert (thing in left) is not (ours and parts[0] != LIVING), label


def is_written_by_us(label, lease_id, epoch):
    hexadecimal = len(lease_id) == 11 and lease_id[0] == "l" and set(lease_id[1:]) <= set("0123456789abcdef")
    return hexadecimal and label == f"broker-test-{lease_id}-e{int(epoch)}"


@given(label=some.text() | EXACT | OTHERS | near(OURS))
def test_a_thing_with_a_living_lease_is_never_left_over(label):
    lease_id = label.removeprefix("broker-test-")[:11]
    assert not is_left("test", label, {lease_id})
