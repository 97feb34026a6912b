"""Values for tests: a factory fills in what the test does not speak of."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from broker.core.demand import Job, Shape
from broker.core.leases import Lease, LeaseState, label_for, new_lease_id
from broker.core.offers import CapacityType, Hardware, Offer

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Clock:
    """Time that passes only when told to."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def a_shape(**changes: Any) -> Shape:
    values: dict[str, Any] = {
        "name": "h100",
        "partition": "cloud",
        "accelerator": "H100",
        "accelerator_count": 1,
        "cpus": 4,
        "memory_gib": 16,
        "disk_gib": 100,
        "nodes": 4,
    }
    return Shape(**(values | changes))


def an_offer(**changes: Any) -> Offer:
    hardware: dict[str, Any] = {
        "accelerator": "H100",
        "accelerator_count": 1,
        "accelerator_memory_gib": 80,
        "cpus": 26,
        "memory_gib": 225,
        "disk_gib": 2816,
        "cpu_arch": "x86_64",
    }
    hardware |= {key: changes.pop(key) for key in list(changes) if key in hardware}
    values: dict[str, Any] = {
        "provider": "lambda-a",
        "kind": "lambda",
        "instance_type": "gpu_1x_h100_sxm5",
        "zone": "us-east-1",
        "capacity_type": CapacityType.ON_DEMAND,
        "hardware": Hardware(**hardware),
        "price_per_hour": Decimal("4.29"),
        "currency": "USD",
        "available": True,
        "observed_at": NOON,
    }
    return Offer(**(values | changes))


def a_lease(**changes: Any) -> Lease:
    lease_id = changes.get("id") or new_lease_id()
    values: dict[str, Any] = {
        "id": lease_id,
        "node": "h100-1",
        "shape": "h100",
        "state": LeaseState.REQUESTED,
        "state_since": NOON,
        "version": 1,
        "created_at": NOON,
        "requested_at": NOON,
        "deadline": NOON + timedelta(minutes=25),
        "request_id": "r1",
        "attempt": 1,
        "epoch": 1,
    }
    if changes.get("state", LeaseState.REQUESTED) is not LeaseState.REQUESTED:
        values |= {
            "label": label_for("test", lease_id, 1),
            "provider": "lambda-a",
            "offer_id": "lambda-a/gpu_1x_h100_sxm5/us-east-1/on_demand",
            "instance_type": "gpu_1x_h100_sxm5",
            "zone": "us-east-1",
            "price_per_hour": Decimal("4.29"),
            "currency": "USD",
        }
    return Lease(**(values | changes))


def a_job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": 7,
        "name": "train",
        "user": "alice",
        "uid": 1001,
        "account": "lab",
        "partition": "cloud",
        "state": "CONFIGURING",
        "reason": "None",
        "nodes": ("h100-1",),
        "comment": "",
        "admin_comment": "",
        "time_limit": timedelta(hours=1),
        "submitted_at": NOON,
        "started_at": None,
        "ended_at": None,
        "batch": True,
    }
    return Job(**(values | changes))


def a_run(**changes: Any) -> dict[str, Any]:
    """One row of `broker.accounting.typed.SCHEMA`: two H100 for a minute."""
    values: dict[str, Any] = {
        "cluster": "c", "sluid": None, "db_index": 11, "raw_id": "7", "job_id": "7", "submitted": 1_790_000_000,
        "started": 1_790_000_100, "ended": 1_790_000_160, "elapsed": 60, "suspended": 0, "limit": 3600, "state": "COMPLETED",
        "is_over": True, "user": "alice", "account": "chem", "partition": "cloud", "qos": "normal", "gpus": "h100=2", "cpus": 4,
        "billing": None, "nodes": "h100-1",
    }  # fmt: skip
    return values | changes
