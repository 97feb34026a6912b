"""The contract of `provider_contract.py`, kept by the Vast adapter against its emulator over real HTTP."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from contract.lambda_emulator import Seconds
from contract.loopback import LATE_SECONDS, closed_port, late
from contract.provider_contract import LABEL, WireContract, available, delete_until_gone, labelled, raised, spec
from contract.vast_emulator import IMAGE, KEY, PUBLIC_KEY, a_machine, a_market, a_rent, an_ask

from broker.core.errors import InstanceNotFound, NoCapacity, OutcomeUnknown, ProviderError
from broker.core.offers import CapacityType, InstanceState
from broker.providers.http import Pace
from broker.providers.vast import VastProvider
from broker.sandbox.emulators.faults import RENT_PATH, faults_from
from broker.sandbox.emulators.vast_http import vast_api

CALLS = {
    "offers": {"path": "/v0/bundles/"},
    "create": {"path": RENT_PATH},
    "delete": {"path": "/v0/instances/", "method": "DELETE"},
    "instance": {"path": "/v0/instances/", "method": "GET"},
    "instances": {"path": "/v1/instances/"},
}


class VastRig:
    def __init__(self, loopback):
        self._loopback = loopback
        self._clients = []
        self._seconds = Seconds()
        self.use()
        self.provider = self._adapter(KEY, loopback.url)

    def pass_seconds(self, seconds):
        self._seconds.pass_(seconds)

    def stranger(self, label):
        if not self.cloud.keys(KEY):
            self.cloud.add_key(KEY, PUBLIC_KEY)
        self.cloud.rent(KEY, an_ask(self._seconds), a_rent(label=label))

    def vanish(self, instance_id):
        self.cloud.vanish(instance_id)

    def sell_in(self, zone):
        self.use(selling=[a_machine(geolocation=zone)])

    def refuse(self, kind):
        self.fault(kind=kind)

    def lose_answer(self):
        self.refuse("answer_lost")

    def break_call(self, call, kind):
        where = {"path": RENT_PATH} if kind.startswith("answer_") else CALLS[call]
        self.fault(kind=kind, **where)

    def fault(self, **row):
        self.cloud.faults = faults_from([{"times": 1, **row}])

    def stranger_to(self):
        return self._adapter("wrong-key", self._loopback.url)

    def unreachable(self):
        return self._adapter(KEY, f"http://127.0.0.1:{closed_port()}")

    def close(self):
        for http in self._clients:
            http.close()

    def use(self, **changes):
        self.cloud = a_market(self._seconds, **changes)
        self._loopback.app = vast_api(self.cloud, sleep=late)

    def _adapter(self, key, url):
        timeout = httpx.Timeout(10, read=LATE_SECONDS)
        http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout)
        self._clients.append(http)
        return VastProvider(
            "vast-a",
            http,
            lambda: datetime.fromtimestamp(self._seconds(), UTC),
            image=IMAGE,
            pace=Pace(calls=0, creates=0),
            sleep=lambda seconds: None,
            ticks=self._seconds,
        )


class TestVast(WireContract):
    @pytest.fixture
    def rig(self, loopback):
        rig = VastRig(loopback)
        yield rig
        rig.close()

    def test_only_vms_are_offers_of_both_markets(self, rig):
        reading = rig.provider.offers()
        assert {offer.machine for offer in reading.offers} == {"22990", "30411", "41877", "18003"}
        assert {offer.capacity_type for offer in reading.offers} == {CapacityType.ON_DEMAND, CapacityType.SPOT}

    def test_a_bid_taken_for_on_demand_is_ended_again_and_refused(self, rig):
        rig.fault(kind="on_demand")
        assert raised(lambda: rig.provider.create(spec(rig, offer=a_bid(rig)))) is ProviderError
        assert rig.cloud.living() == []

    def test_an_error_that_carries_a_contract_leaves_none(self, rig):
        rig.fault(kind="refused_with_id")
        assert raised(lambda: rig.provider.create(spec(rig, offer=a_bid(rig)))) is ProviderError
        assert rig.cloud.living() == []
        assert len(rig.cloud.bill()) == 1

    def test_what_cannot_be_ended_at_once_is_left_to_be_found_by_its_label(self, rig):
        rig.cloud.faults = faults_from(
            [{"kind": "on_demand", "times": 1}, {"kind": "error_500", "method": "DELETE", "path": "/v0/", "times": 1}]
        )
        assert raised(lambda: rig.provider.create(spec(rig, offer=a_bid(rig)))) is OutcomeUnknown
        (found,) = labelled(rig, LABEL)
        assert found.capacity_type is CapacityType.ON_DEMAND
        delete_until_gone(rig, found)

    def test_a_bid_below_what_wins_buys_nothing(self, rig):
        order = spec(rig, offer=a_bid(rig))
        assert raised(lambda: rig.provider.create(replace(order, price_per_hour=Decimal("0.1")))) is NoCapacity
        assert rig.cloud.bill() == []

    def test_a_machine_dearer_than_shown_is_ended_again(self, rig):
        rig.fault(kind="dearer")
        assert raised(lambda: rig.provider.create(spec(rig))) is NoCapacity
        assert rig.cloud.living() == []

    def test_an_outbid_machine_is_stopped_not_gone_and_is_ended_like_any_other(self, rig):
        made = rig.provider.create(spec(rig, offer=a_bid(rig)))
        rig.pass_seconds(60)
        assert rig.provider.instance(made.id).state is InstanceState.RUNNING
        rig.cloud.preempt(made.id)
        stopped = rig.provider.instance(made.id)
        assert (stopped.state, stopped.address, stopped.raw_state[:6]) == (InstanceState.STOPPED, None, "outbid")
        delete_until_gone(rig, stopped)
        rig.pass_seconds(60)
        assert rig.cloud.living() == []

    def test_the_bid_pays_what_was_shown_and_the_price_contains_the_disk(self, rig):
        offer = a_bid(rig)
        made = rig.provider.create(spec(rig, offer=offer))
        shown = offer.with_disk(50).price_per_hour
        assert abs(made.price_per_hour - shown) < Decimal("0.001")
        assert offer.price_per_hour < shown

    def test_ssh_goes_to_the_hosts_own_port(self, rig):
        made = rig.provider.create(spec(rig))
        rig.pass_seconds(60)
        (listed,) = labelled(rig, LABEL)
        assert (listed.ssh_port, listed.address) == (40022, rig.provider.instance(made.id).address)

    def test_a_price_rise_is_a_notice_and_changes_no_price(self, rig):
        rig.fault(kind="price_rise")
        made = rig.provider.create(spec(rig))
        rig.pass_seconds(600)
        (listed,) = labelled(rig, LABEL)
        assert "asks for 20.8 instead of 10.4 USD an hour" in listed.notice
        assert listed.price_per_hour == made.price_per_hour

    def test_the_listing_goes_on_over_pages(self, rig):
        rig.use(selling=[a_machine(id=number, geolocation=f"Place {number}, US") for number in range(1, 31)])
        rig.cloud.add_key(KEY, PUBLIC_KEY)
        asks = [row["id"] for row in rig.cloud.search(KEY, {"num_gpus": {"eq": 1}})]
        made = {str(rig.cloud.rent(KEY, number, a_rent()).id) for number in asks}
        assert len(made) == 30
        assert {instance.id for instance in rig.provider.instances()} == made

    def test_a_key_that_somebody_removed_is_added_again(self, rig):
        first = rig.provider.create(spec(rig))
        rig.provider.delete(first.id)
        rig.cloud._accounts[KEY].keys.clear()
        assert raised(lambda: rig.provider.create(spec(rig))) is ProviderError
        assert rig.provider.create(spec(rig)).id

    def test_the_ask_is_looked_up_afresh(self, rig):
        offer = available(rig)[0]
        rig.pass_seconds(3600)
        assert rig.provider.create(spec(rig, offer=offer)).machine == offer.machine

    @pytest.mark.parametrize("instance_id", ["", "x", "-1", "1/2", "7?api_key=1", "٣"])
    def test_what_is_no_number_is_no_contract(self, rig, instance_id):
        for call in (rig.provider.instance, rig.provider.delete):
            with pytest.raises(InstanceNotFound):
                call(instance_id)


def a_bid(rig):
    return next(offer for offer in available(rig) if offer.capacity_type is CapacityType.SPOT)
