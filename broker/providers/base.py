"""What an adapter owes. `providers/README.md` says it in prose; `tests/contract/` checks it."""

from typing import Protocol, cast

from broker.core.offers import Instance, InstanceSpec, Reading
from broker.core.residue import Residue


class Provider(Protocol):
    """One credential at one provider. Every method may raise the `ProviderError`s of `broker.core.errors`."""

    name: str
    """The credential's name in the configuration."""
    visibility_lag_seconds: float
    """How long a created instance may be missing from `instances()`."""
    bill_granularity_seconds: int
    """The provider bills begun units of this length."""
    bills_loading: bool
    """Billed from the purchase on. False: only from when the machine runs, which `create` does not wait for."""
    power_off_stops_billing: bool

    def offers(self) -> Reading:
        """Everything this credential could buy, sold-out types included (`available=False`), and what was left out."""

    def create(self, spec: InstanceSpec) -> Instance:
        """Buy. OutcomeUnknown: it may have happened; list by label before buying again."""

    def delete(self, instance_id: str) -> None:
        """Ask for the end. InstanceNotFound: it is gone. Returning means asked, not gone."""

    def instance(self, instance_id: str) -> Instance:
        """InstanceNotFound: it is gone."""

    def instances(self) -> list[Instance]:
        """Every living instance of the credential, ours and others'."""

    def create_wait_seconds(self, queued: int = 0) -> float:
        """How long until our own rate limit lets the next create through, `queued` others before it; 0: now."""

    def reserve_create(self) -> bool:
        """Take the right to the next create, if it is free now; each create is preceded by one of these."""


class LeavesResidue(Protocol):
    """Of adapters whose provider charges for more than instances. A second protocol: most do not."""

    def residue(self) -> list[Residue]:
        """Everything of the credential that costs money and is no instance, ours and others'. As of `Provider.instances`."""

    def remove_residue(self, left: Residue) -> None:
        """Ask for its end. InstanceNotFound: it is gone. Returning means asked, not gone."""


def residue_of(provider: Provider) -> LeavesResidue | None:
    """The provider's residue, if it leaves any."""
    # Asked of the object, not of its class: the metrics stand before adapters and pass everything on.
    return cast(LeavesResidue, provider) if hasattr(provider, "remove_residue") else None
