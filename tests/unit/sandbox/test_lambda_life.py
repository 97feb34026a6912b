"""An emulated instance over time: states, address, end, bill."""

from decimal import Decimal

import pytest
from contract.lambda_emulator import KEY, PUBLIC_KEY, Seconds, a_cloud, a_launch
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import BrokerError
from broker.sandbox.emulators.faults import faults_from
from broker.sandbox.emulators.lambda_errors import ApiError


class Powered:
    """Machines that remember what became of them."""

    def __init__(self, addresses=100):
        self.left = addresses
        self.specs = []
        self.stopped = []

    def address(self, instance_id):
        if not self.left:
            raise BrokerError("no address left")
        self.left -= 1
        return "192.0.2.9"

    def start(self, spec):
        self.specs.append(spec)

    def stop(self, instance_id):
        self.stopped.append(instance_id)


@pytest.fixture
def powered(cloud):
    cloud._machines = Powered()
    return cloud._machines


def launch(cloud, *faults, **changes):
    cloud.faults = faults_from([{"kind": kind} if isinstance(kind, str) else kind for kind in faults])
    return cloud.launch(KEY, a_launch(**changes)).id


def status(cloud, instance_id):
    return cloud.instance(KEY, instance_id)["status"]


def end(cloud, *ids):
    return cloud.terminate(KEY, {"instance_ids": list(ids)})


def test_an_instance_boots_runs_ends_and_is_forgotten(cloud, seconds):
    instance_id = launch(cloud)
    seen = [status(cloud, instance_id)]
    seconds.pass_(3)
    seen.append(status(cloud, instance_id))
    end(cloud, instance_id)
    seen.append(status(cloud, instance_id))
    seconds.pass_(3)
    seen.append(status(cloud, instance_id))
    assert seen == ["booting", "active", "terminating", "terminated"]
    seconds.pass_(60)
    with pytest.raises(ApiError, match="does not exist"):
        cloud.instance(KEY, instance_id)
    cloud.tick()
    assert cloud.instances(KEY) == []


def test_the_address_comes_later_than_the_word_active(cloud, seconds):
    instance_id = launch(cloud)
    seconds.pass_(3)
    assert "ip" not in cloud.instance(KEY, instance_id)
    seconds.pass_(0.5)
    assert cloud.instance(KEY, instance_id)["ip"].startswith("192.0.2.")


def test_a_machine_is_powered_on_once_and_off_at_its_end(cloud, seconds, powered):
    instance_id = launch(cloud, hostname="a-host", user_data="#!/bin/sh\n")
    cloud.tick()
    assert powered.specs == []
    for _ in range(3):
        seconds.pass_(3)
        cloud.tick()
    (machine,) = powered.specs
    assert (machine.hostname, machine.user_data, machine.public_key) == ("a-host", "#!/bin/sh\n", PUBLIC_KEY)
    assert (machine.gpu, machine.gpus, machine.ssh) == ("NVIDIA A10", 1, True)
    end(cloud, instance_id)
    assert powered.stopped == [instance_id]


def test_a_machine_ended_in_boot_is_never_powered_on(cloud, seconds, powered):
    end(cloud, launch(cloud))
    seconds.pass_(10)
    cloud.tick()
    assert powered.specs == []


@pytest.mark.parametrize(
    ("fault", "after_a_minute"), [("unhealthy", "unhealthy"), ("never_active", "booting"), ("no_address", "active")]
)
def test_faults_of_a_state_last(cloud, seconds, fault, after_a_minute):
    instance_id = launch(cloud, fault)
    assert status(cloud, instance_id) == "booting"
    seconds.pass_(60)
    assert status(cloud, instance_id) == after_a_minute
    assert ("ip" in cloud.instance(KEY, instance_id)) == (fault != "no_address")


def test_a_lying_machine_and_one_without_ssh_are_made_so(cloud, seconds, powered):
    launch(cloud, "lies_gpu", "ssh_never", instance_type_name="gpu_1x_h100_sxm5")
    seconds.pass_(3)
    cloud.tick()
    assert [(spec.gpu, spec.gpu_mib, spec.ssh) for spec in powered.specs] == [("NVIDIA A10", 23028, False)]


def test_an_instance_is_missing_from_the_list_for_a_while(cloud, seconds):
    instance_id = launch(cloud, {"kind": "list_lag", "seconds": 40})
    assert cloud.instances(KEY) == []
    assert status(cloud, instance_id) == "booting"
    seconds.pass_(40)
    assert [row["id"] for row in cloud.instances(KEY)] == [instance_id]


def test_an_instance_vanishes_without_a_word(cloud, seconds, powered):
    instance_id = launch(cloud, {"kind": "vanish", "seconds": 30})
    seconds.pass_(30)
    cloud.tick()
    with pytest.raises(ApiError, match="does not exist"):
        cloud.instance(KEY, instance_id)
    assert (cloud.living(), powered.stopped) == ([], [instance_id])


def test_an_instance_may_linger_after_its_end_and_costs_nothing(cloud, seconds):
    instance_id = launch(cloud, "lingers")
    end(cloud, instance_id)
    seconds.pass_(899)
    assert status(cloud, instance_id) == "terminating"
    assert [row["minutes"] for row in cloud.bill()] == [0]


def test_an_end_refused_at_first_is_told_beforehand_and_granted_later(cloud, seconds):
    instance_id = launch(cloud, "terminate_refused")
    assert cloud.instance(KEY, instance_id)["actions"]["terminate"] == {
        "available": False,
        "reason_code": "vm-has-not-launched",
        "reason_description": "vm has not launched",
    }
    with pytest.raises(ApiError, match="vm-has-not-launched"):
        end(cloud, instance_id)
    seconds.pass_(20)
    assert end(cloud, instance_id)[0]["status"] == "terminating"


def test_of_several_to_be_ended_all_are_or_none(cloud):
    first = launch(cloud)
    with pytest.raises(ApiError, match="does not exist"):
        end(cloud, first, "no-such")
    assert status(cloud, first) == "booting"


def test_a_restarted_instance_boots_again_and_keeps_its_address(cloud, seconds):
    instance_id = launch(cloud)
    seconds.pass_(10)
    address = cloud.instance(KEY, instance_id)["ip"]
    cloud.restart(KEY, {"instance_ids": [instance_id]})
    assert status(cloud, instance_id) == "booting"
    seconds.pass_(3)
    assert (status(cloud, instance_id), cloud.instance(KEY, instance_id)["ip"]) == ("active", address)


def test_what_is_in_use_is_not_for_sale_and_comes_back(cloud):
    def free():
        return cloud.instance_types()["gpu_2x_h100_sxm5"]["regions_with_capacity_available"]

    taken = [launch(cloud, instance_type_name="gpu_2x_h100_sxm5") for _ in range(4)]
    assert free() == []
    with pytest.raises(ApiError, match="Not enough capacity"):
        launch(cloud, instance_type_name="gpu_2x_h100_sxm5")
    end(cloud, taken[0])
    assert [region["name"] for region in free()] == ["us-east-1"]


def test_no_address_left_is_no_capacity(cloud):
    cloud._machines = Powered(addresses=0)
    with pytest.raises(ApiError, match="Not enough capacity"):
        launch(cloud)
    assert cloud.bill() == []


@pytest.mark.parametrize(("lived", "minutes"), [(0, 0), (0.001, 1), (59.9, 1), (60, 1), (60.001, 2), (3600, 60)])
def test_the_bill_counts_begun_minutes(cloud, seconds, lived, minutes):
    instance_id = launch(cloud)
    seconds.pass_(lived)
    end(cloud, instance_id)
    seconds.pass_(1000)
    (row,) = cloud.bill()
    assert (row["minutes"], Decimal(row["amount"])) == (minutes, minutes * Decimal("1.29") / 60)


def test_the_bill_keeps_what_is_long_gone_and_runs_on_for_what_lives(cloud, seconds):
    gone = launch(cloud, name="one")
    cloud.vanish(gone)
    living = launch(cloud, "unhealthy")
    seconds.pass_(90)
    cloud.tick()
    assert [(row["instance_id"], row["name"], row["minutes"]) for row in cloud.bill()] == [
        (gone, "one", 0),
        (living, None, 2),
    ]
    assert cloud.living() == [living]


@given(st.lists(st.floats(0, 10_000), max_size=5), st.floats(0, 100))
def test_the_bill_only_grows(pauses, extra):
    seconds = Seconds()
    cloud = a_cloud(seconds)
    cloud.add_key(KEY, {"name": "mine", "public_key": PUBLIC_KEY})
    ids, last = [], Decimal(0)
    for pause in pauses:
        ids.append(launch(cloud))
        seconds.pass_(pause)
        end(cloud, ids[-1])
        total = sum((Decimal(row["amount"]) for row in cloud.bill()), Decimal(0))
        assert total >= last
        last = total
    seconds.pass_(extra)
    assert sum((Decimal(row["amount"]) for row in cloud.bill()), Decimal(0)) == last
