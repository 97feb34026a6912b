"""A provider in memory for tests: it passes the contract that the real adapters pass, and misbehaves on request."""

import itertools
from collections.abc import Callable
from dataclasses import replace

from broker.core.errors import InstanceNotFound, ProviderError
from broker.core.offers import Instance, InstanceSpec, InstanceState, Offer, Reading
from broker.core.residue import Residue


class FakeProvider:
    """Boots at once. `fail_create` is raised by the next creates; `lose_answers` of them happen all the same."""

    visibility_lag_seconds = 10.0
    bill_granularity_seconds = 60
    bills_loading = True
    power_off_stops_billing = False

    def __init__(self, name: str, offers: Callable[[], list[Offer]], *, deletes_take: int = 1) -> None:
        self.name = name
        self.fail_create: list[ProviderError] = []
        self.lose_answers = False
        self.created: list[InstanceSpec] = []
        self.left: dict[str, Residue] = {}
        """What is charged beside instances, by id."""
        self.removed: list[str] = []
        self._offers = offers
        self._deletes_take = deletes_take
        self._deletes: dict[str, int] = {}
        self._instances: dict[str, Instance] = {}
        self._numbers = itertools.count(1)

    def offers(self) -> Reading:
        return Reading(offers=tuple(self._offers()))

    def create(self, spec: InstanceSpec) -> Instance:
        if self.fail_create:
            error = self.fail_create.pop(0)
            if self.lose_answers:
                self._add(spec)
            raise error
        return self._add(spec)

    def delete(self, instance_id: str) -> None:
        self.instance(instance_id)
        self._deletes[instance_id] = self._deletes.get(instance_id, 0) + 1
        if self._deletes[instance_id] >= self._deletes_take:
            del self._instances[instance_id]

    def instance(self, instance_id: str) -> Instance:
        if instance_id not in self._instances:
            raise InstanceNotFound(f"{self.name}: no instance {instance_id}")
        return self._instances[instance_id]

    def instances(self) -> list[Instance]:
        return list(self._instances.values())

    def create_wait_seconds(self, queued: int = 0) -> float:
        return 0.0

    def reserve_create(self) -> bool:
        return True

    def residue(self) -> list[Residue]:
        return list(self.left.values())

    def remove_residue(self, left: Residue) -> None:
        if left.id not in self.left:
            raise InstanceNotFound(f"{self.name}: no {left.kind} {left.id}")
        self.removed.append(left.id)
        del self.left[left.id]

    def vanish(self, instance_id: str) -> None:
        """The provider takes the machine away without a word."""
        del self._instances[instance_id]

    def set_state(self, instance_id: str, state: InstanceState) -> None:
        """Show an instance in another state."""
        self._instances[instance_id] = replace(self._instances[instance_id], state=state, raw_state=state.value)

    def _add(self, spec: InstanceSpec) -> Instance:
        self.created.append(spec)
        number = next(self._numbers)
        instance = Instance(
            id=f"{self.name}-{number}",
            label=spec.label,
            state=InstanceState.RUNNING,
            raw_state="running",
            address=f"192.0.2.{number}",
            instance_type=spec.instance_type,
            zone=spec.zone,
            price_per_hour=None,
            capacity_type=spec.capacity_type,
            machine=spec.machine,
        )
        self._instances[instance.id] = instance
        return instance
