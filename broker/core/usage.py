"""What a lease used. Both ends are kept as bounds, because the provider's clock is not ours."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from broker.core.money import cost

_MICRO = Decimal("0.000001")


class UsageKind(StrEnum):
    START = "start"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class UsageEvent:
    """Billing of a lease's instance began or ended, somewhere in [`not_before`, `not_after`]."""

    lease_id: str
    kind: UsageKind
    not_before: datetime
    not_after: datetime
    price_per_hour: Decimal
    currency: str


@dataclass(frozen=True, kw_only=True)
class CostBounds:
    """The provider's bill for one lease lies in [`low`, `high`]; rounded outwards to a millionth."""

    low: Decimal
    high: Decimal
    currency: str


def bounds(
    start: UsageEvent,
    end: UsageEvent | None,
    now: datetime,
    granularity: timedelta,
    runs_since: datetime | None = None,
) -> CostBounds:
    """Bounds of one lease's cost when the provider bills begun units of `granularity`; `end` None: still running.

    `runs_since`: when the machine was first seen to run, where nothing is billed before; None: billed from the purchase on.
    """
    last_low = end.not_before if end else now
    last_high = end.not_after if end else now
    low = max(timedelta(0), last_low - (runs_since or start.not_after))
    high = max(timedelta(0), last_high - start.not_before)
    return CostBounds(
        low=cost(start.price_per_hour, _billed_seconds(low, granularity)).quantize(_MICRO, ROUND_FLOOR),
        high=cost(start.price_per_hour, _billed_seconds(high, granularity)).quantize(_MICRO, ROUND_CEILING),
        currency=start.currency,
    )


def _billed_seconds(used: timedelta, granularity: timedelta) -> Decimal:
    unit = Decimal(str(granularity.total_seconds()))
    units = (Decimal(str(used.total_seconds())) / unit).to_integral_value(rounding=ROUND_CEILING)
    return units * unit
