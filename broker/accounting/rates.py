"""What a GPU-hour costs here. Decimal, and never rounded: that is the invoice's."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from broker.core.money import cost

ANY = "*"


class Terms(StrEnum):
    """Whose clock is charged: `held` is what Slurm's own sreport counts and a provider charges."""

    HELD = "held"
    RAN = "ran"


class Clocks(Protocol):
    """Seconds by both clocks (`totals.Seconds`)."""

    ran: int
    held: int


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Price of a GPU-hour by Slurm's name of the type, capitals ignored; `*` for any other."""

    per_gpu_hour: Mapping[str, Decimal]
    currency: str = "USD"
    terms: Terms = Terms.HELD

    def of(self, gpu: str) -> Decimal | None:
        """None: this type has no price."""
        return self.per_gpu_hour.get(gpu.lower(), self.per_gpu_hour.get(ANY))

    def charged(self, gpus: Mapping[str, Clocks]) -> dict[str, int]:
        """The seconds of each type that are charged."""
        return {name: each.held if self.terms is Terms.HELD else each.ran for name, each in gpus.items()}

    def cost(self, seconds: Mapping[str, int]) -> Decimal | None:
        """Of GPU-seconds by type; what has no price is not in it. None: nothing has."""
        if not self.per_gpu_hour:
            return None
        priced = [(self.of(name), count) for name, count in seconds.items()]
        return sum((cost(price, Decimal(count)) for price, count in priced if price is not None), Decimal(0))

    def unpriced(self, seconds: Mapping[str, int]) -> list[str]:
        """Types that were used and have no price."""
        return sorted(name for name, count in seconds.items() if count and self.of(name) is None)
