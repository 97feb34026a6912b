"""The contract of `slurm_contract.py`, kept by the Slurm in memory. The real roads: tests/integration/test_slurm_roads.py."""

import contextlib

import pytest
from contract.slurm_contract import SlurmContract

from broker.slurm.fake import FakeSlurm


class FakeRig:
    def __init__(self):
        self.client = FakeSlurm()
        self.client.set_node("local-1", "IDLE")
        for number in range(1, 5):
            self.client.set_node(f"h100-{number}", "IDLE", "CLOUD", "POWERED_DOWN")

    def pending(self, *, name="job", comment="", **limit):
        return self._job("PENDING", name=name, comment=comment, time_limit=limit.get("limit"))

    def booting(self, node):
        self.client.set_node(node, "ALLOCATED", "CLOUD", "POWERING_UP")
        return self._job("CONFIGURING", nodes=[node])

    def drained(self, node, reason):
        self.client.set_node(node, "IDLE", "DRAIN", reason=reason)

    def not_before(self, job_id):
        return self.client.not_before.get(job_id)

    @contextlib.contextmanager
    def away(self):
        self.client.available = False
        yield
        self.client.available = True

    def _job(self, state, **facts):
        number = len(self.client.job_table) + 1
        return self.client.set_job(number, state, user="root", uid=0, **facts).id


class TestFakeSlurm(SlurmContract):
    @pytest.fixture
    def rig(self):
        return FakeRig()
