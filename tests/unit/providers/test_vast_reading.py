"""What Vast's records become: recorded ones, and the rules that the recorded ones do not show."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from broker.core.offers import CapacityType, InstanceState
from broker.providers.vast_instances import fold, read_instance, read_notices
from broker.providers.vast_offers import Unusable, disk_gb, number, read_offer, read_offers, rows_of, zone

EXAMPLES = json.loads((Path(__file__).parents[2] / "data" / "vast" / "examples.json").read_text())
REAL = EXAMPLES["real_search"]["offers"][0]
SEEN = datetime(2024, 7, 30, 15, tzinfo=UTC)


def an_ask(**changes):
    return {**REAL, "vms_enabled": True} | changes


def offer(market=CapacityType.ON_DEMAND, **changes):
    return read_offer(an_ask(**changes), market, "vast-a", SEEN)


def why(**changes):
    with pytest.raises(Unusable) as caught:
        offer(**changes)
    return str(caught.value)


def test_a_real_record_becomes_an_offer_of_one_machine():
    made = offer()
    assert (made.id, made.machine, made.zone) == ("vast-a/22990x1/on_demand", "22990", "cn-guangxi")
    hardware = made.hardware
    assert (hardware.accelerator, hardware.accelerator_count, hardware.accelerator_memory_gib) == ("RTX4090", 1, 24)
    # A quarter of the machine's 96 processors and 64 GB of memory comes with one of its four GPUs.
    assert (hardware.cpus, hardware.memory_gib) == (24, 15)


def test_the_price_with_a_disk_is_what_vast_itself_reckons():
    made = offer()
    with_disk = made.with_disk(10)
    gb = Decimal("10") * Decimal("1.073741824")
    assert with_disk.price_per_hour == pytest.approx(
        Decimal(str(REAL["dph_base"])) + Decimal(str(REAL["storage_cost"])) * gb / 720, rel=Decimal("1e-6")
    )
    assert made.with_disk(1).price_per_hour == made.with_disk(8).price_per_hour, "eight GB are the least"
    assert made.with_disk(10**6) is made, "more than there is"
    assert with_disk.with_disk(500) is with_disk


def test_the_disk_is_asked_for_in_vasts_unit_and_never_smaller_than_wished():
    assert [disk_gb(size) for size in (None, 1, 8, 100)] == [8, 8, 9, 108]


def test_a_bid_is_another_thing_than_the_same_machine_on_demand():
    bid = offer(CapacityType.SPOT)
    assert (bid.price_per_hour, bid.id) == (Decimal("0.2"), "vast-a/22990x1/spot")


def test_the_contract_ends_at_the_earlier_of_date_and_duration():
    assert offer(end_date=SEEN.timestamp() + 7200, duration=3600).until == SEEN + timedelta(hours=1)
    assert offer(end_date=SEEN.timestamp() + 60, duration=3600).until == SEEN + timedelta(minutes=1)
    assert offer(end_date=None, duration=None).until is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vms_enabled": False}, "a container, not a VM"),
        ({"vms_enabled": None}, "a container, not a VM"),
        ({"rented": True}, "rented out"),
        ({"is_vm_deverified": True}, "its VMs are known to fail"),
        ({"direct_port_count": 0}, "no port by which SSH could reach a VM"),
        ({"machine_id": None}, "no machine is named"),
        ({"ask_contract_id": None, "id": None}, "no ask to buy it by"),
        ({"gpu_name": "Imaginary RTX 9999"}, "a GPU that the catalogue does not know"),
        ({"num_gpus": 0}, "no GPU"),
        ({"cpu_arch": "riscv64"}, "a CPU of an unknown kind"),
        ({"cpu_cores_effective": 0}, "a machine without CPU, memory or disk"),
        ({"dph_base": 0}, "its price is no amount above 0"),
        ({"dph_base": -1}, "its price is no amount above 0"),
        ({"dph_base": "free"}, "its price is no amount above 0"),
        ({"storage_cost": None}, "its disk has no price"),
    ],
)
def test_what_is_no_usable_vm_is_left_out_with_its_reason(changes, reason):
    assert why(**changes) == reason


def test_a_price_that_is_a_text_is_a_price():
    assert offer(dph_base="0.25").price_per_hour == Decimal("0.25")


def test_of_several_asks_for_the_same_gpus_the_cheapest_counts_and_the_others_are_told():
    rows = [an_ask(id=n, ask_contract_id=n, dph_base=price) for n, price in ((1, 0.3), (2, 0.2), (3, 0.4))]
    reading = read_offers(rows, CapacityType.ON_DEMAND, "vast-a", frozenset(), SEEN)
    assert [made.price_per_hour for made in reading.offers] == [Decimal("0.2")]
    assert reading.reasons() == [("another ask for the same GPUs of the machine", 2)]


def test_regions_are_zones_or_countries():
    for wanted, found in (({"cn"}, 1), ({"cn-guangxi"}, 1), ({"us"}, 0), (set(), 1)):
        assert len(read_offers([an_ask()], CapacityType.SPOT, "v", frozenset(wanted), SEEN).offers) == found


def test_the_documented_answer_is_one_object_and_is_read_all_the_same():
    (row,) = rows_of(EXAMPLES["documented_search"])
    assert row["machine_id"] == 88888
    with pytest.raises(ValueError, match="NoneType"):
        rows_of({})


@pytest.mark.parametrize(
    ("told", "name"),
    [("Guangxi, CN", "cn-guangxi"), (", US", "us"), ("US", "us"), ("", "unknown"), (None, "unknown"), (7, "unknown"),
     ("California, United States", "united-states-california"), ("São Paulo, BR", "br-s-o-paulo")],
)  # fmt: skip
def test_a_place_becomes_a_word_that_a_job_can_wish_for(told, name):
    assert zone(told) == name


@pytest.mark.parametrize("value", [True, None, [], {}, "x", "NaN", "Infinity", float("inf"), 10**40, "1" * 60])
def test_what_is_no_number_is_none(value):
    assert number(value) is None


def states(actual, intended="running", current="running", coming="running", **more):
    fields = {"actual_status": actual, "intended_status": intended, "cur_state": current, "next_state": coming}
    return fold(fields | more)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (states(None), InstanceState.STARTING),
        (states("created"), InstanceState.STARTING),
        (states("loading"), InstanceState.STARTING),
        (states("running"), InstanceState.RUNNING),
        (states("Running "), InstanceState.RUNNING),
        (states("exited"), InstanceState.STOPPED),
        (states("offline"), InstanceState.UNHEALTHY),
        (states("hibernating"), InstanceState.UNKNOWN),
        (states("running", coming="stopped"), InstanceState.STOPPED),
        (states("loading", status_msg="Error: OCI runtime create failed: x"), InstanceState.UNHEALTHY),
        (states("exited", "stopped", "stopped", "stopped", is_bid=True), InstanceState.STOPPED),
        (states("running", "stopped", "stopped", "stopped", is_bid=True), InstanceState.STOPPED),
    ],
)
def test_four_fields_fold_into_one_state(row, state):
    assert row[0] is state
    assert row[1]


def test_only_a_bid_is_outbid():
    assert states("exited", "stopped", "stopped", "stopped", is_bid=True)[1].startswith("outbid")
    assert not states("exited", "stopped", "stopped", "stopped", is_bid=False)[1].startswith("outbid")


def test_a_recorded_instance_has_its_port_and_nothing_secret_is_kept():
    (row,) = EXAMPLES["instances"]["GET /api/v1/instances/"]["instances"]
    seen = read_instance(row, {"312": "the price rises"})
    assert (seen.id, seen.address, seen.ssh_port, seen.machine) == ("312", "192.0.2.45", 20000, "12")
    assert (seen.capacity_type, seen.notice) == (CapacityType.ON_DEMAND, "the price rises")
    assert row["jupyter_token"] not in repr(seen)


def test_a_machine_that_is_off_has_no_address_though_its_record_does():
    (row,) = EXAMPLES["instances"]["GET /api/v1/instances/"]["instances"]
    assert read_instance({**row, "actual_status": "exited"}, {}).address is None


def test_a_price_rise_is_told_by_the_hour():
    rise = {"contract_id": 7, "old_gpu_costpersec": 0.0001, "new_gpu_costpersec": 0.0002}
    told = read_notices({"pending_price_increases": [rise, None, {"contract_id": True}, {"contract_id": 8}]})
    assert "0.72 instead of 0.36 USD an hour" in told["7"]
    assert told.keys() == {"7", "8"}
    assert read_notices("maintenance") == {}
