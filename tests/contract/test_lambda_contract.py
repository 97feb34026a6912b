"""The contract of `provider_contract.py`, kept by the Lambda adapter against its emulator over real HTTP, and by the fake."""

from decimal import Decimal

import factories
import httpx
import pytest
from contract.lambda_emulator import KEY, PUBLIC_KEY, Seconds, a_cloud, a_launch
from contract.loopback import LATE_SECONDS, closed_port, late
from contract.provider_contract import ProviderContract, WireContract, delete_until_gone

from broker.core.errors import NoCapacity, OutcomeUnknown, QuotaExceeded
from broker.core.offers import InstanceSpec
from broker.providers.fake import FakeProvider
from broker.providers.http import Pace
from broker.providers.lambda_cloud import LambdaProvider
from broker.sandbox.emulators.faults import LAUNCH_PATH, faults_from
from broker.sandbox.emulators.lambda_catalogue import InstanceType, shipped_types
from broker.sandbox.emulators.lambda_http import public_api

PATHS = {
    "offers": "/instance-types",
    "create": LAUNCH_PATH,
    "delete": "/instance-operations/terminate",
    "instance": "/instances/",
    "instances": "/instances",
}


class LambdaRig:
    def __init__(self, loopback):
        self._loopback = loopback
        self._clients = []
        self._seconds = Seconds()
        self._use(shipped_types())
        self.provider = self._adapter(KEY, loopback.url)

    def pass_seconds(self, seconds):
        self._seconds.pass_(seconds)

    def stranger(self, label):
        if not self._cloud.keys(KEY):
            self._cloud.add_key(KEY, {"name": "mine", "public_key": PUBLIC_KEY})
        self._cloud.launch(KEY, a_launch(**({} if label is None else {"name": label})))

    def vanish(self, instance_id):
        self._cloud.vanish(instance_id)

    def sell_in(self, zone):
        (a10,) = [kind for kind in shipped_types() if kind.name == "gpu_1x_a10"]
        self._use([InstanceType(**{**vars(a10), "regions": {zone: 1}})])

    def refuse(self, kind):
        self._cloud.faults = faults_from([{"kind": kind, "times": 1}])

    def lose_answer(self):
        self.refuse("answer_lost")

    def break_call(self, call, kind):
        self._cloud.faults = faults_from([{"kind": kind, "path": PATHS[call], "times": 1}])

    def stranger_to(self):
        return self._adapter("wrong-key", self._loopback.url)

    def unreachable(self):
        return self._adapter(KEY, f"http://127.0.0.1:{closed_port()}")

    def close(self):
        for http in self._clients:
            http.close()

    def _use(self, types):
        self._cloud = a_cloud(self._seconds, types=types)
        self._loopback.app = public_api(self._cloud, sleep=late)

    def _adapter(self, key, url):
        timeout = httpx.Timeout(10, read=LATE_SECONDS)
        http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout)
        self._clients.append(http)
        return LambdaProvider(
            "lambda-a",
            http,
            factories.Clock(),
            pace=Pace(calls=0, creates=0),
            sleep=lambda seconds: None,
        )


class TestLambda(WireContract):
    @pytest.fixture
    def rig(self, loopback):
        rig = LambdaRig(loopback)
        yield rig
        rig.close()

    def test_a_machine_that_may_not_be_ended_yet_is_ended_later(self, rig):
        rig.refuse("terminate_refused")
        made = rig.provider.create(self._spec())
        assert rig._cloud.instance(KEY, made.id)["actions"]["terminate"]["reason_code"] == "vm-has-not-launched"
        self._end(rig, made)

    def test_a_machine_that_lingers_after_its_end_is_ended_all_the_same(self, rig):
        rig._cloud.faults = faults_from([{"kind": "lingers", "seconds": 300}])
        self._end(rig, rig.provider.create(self._spec()))

    def test_a_processor_without_an_accelerator_is_an_offer_too(self, rig):
        (price,) = {o.price_per_hour for o in rig.provider.offers().offers if o.hardware.accelerator is None}
        assert price == Decimal("0.20")

    @staticmethod
    def _spec():
        return InstanceSpec(
            label="broker-test-l0123456789-e1",
            instance_type="gpu_1x_a10",
            zone="us-east-1",
            user_data="",
            ssh_public_key=PUBLIC_KEY,
        )

    @staticmethod
    def _end(rig, instance):
        delete_until_gone(rig, instance)
        assert rig._cloud.living() == []


class FakeRig:
    def __init__(self):
        self._offers = [factories.an_offer(provider="fake")]
        self.provider = FakeProvider("fake", lambda: list(self._offers), deletes_take=2)

    def pass_seconds(self, seconds):
        """It boots and lists at once."""

    def stranger(self, label):
        offer = self._offers[0]
        self.provider.create(
            InstanceSpec(
                label=label,
                instance_type=offer.instance_type,
                zone=offer.zone,
                user_data="",
                ssh_public_key="",
            )
        )

    def vanish(self, instance_id):
        self.provider.vanish(instance_id)

    def sell_in(self, zone):
        self._offers.append(factories.an_offer(provider="fake", zone=zone))

    def refuse(self, kind):
        self.provider.fail_create = [{"sold_out": NoCapacity, "quota": QuotaExceeded}[kind](kind)]

    def lose_answer(self):
        self.provider.lose_answers = True
        self.provider.fail_create = [OutcomeUnknown("lost")]


class TestFake(ProviderContract):
    @pytest.fixture
    def rig(self):
        return FakeRig()
