"""What a refusal means for what comes next: another try at once, later, or never. Pure."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from broker.core.demand import Limits
from broker.core.errors import (
    BrokerError,
    CredentialsRefused,
    NoCapacity,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.leases import Lease, LeaseState

WORDS: Mapping[type[BrokerError], str] = {
    NoCapacity: "sold out",
    QuotaExceeded: "the credential's quota is full",
    CredentialsRefused: "the provider refuses the credential",
    ProviderUnavailable: "the provider cannot be reached",
    RateLimited: "too many calls on the credential",
}
NOTHING = "nothing to buy"
"""How the reason begins when no offer is left."""
NEVER = "can never be bought"
"""In the reason of what no waiting will mend."""

# DESIGN 3, "when nothing can be bought": Slurm tries the job again after this, doubling, and holds it after six rounds.
_FIRST = timedelta(seconds=60)
LAST_BACK_OFF = timedelta(minutes=30)
_ROUNDS = 6


def back_off(number: int) -> timedelta:
    """How long Slurm leaves the job alone after the round with this number, counted from 1."""
    doublings: int = 2 ** (max(1, min(number, _ROUNDS)) - 1)
    return min(_FIRST * doublings, LAST_BACK_OFF)


def rounds(past: Sequence[Lease]) -> int:
    """How many calls for a job's nodes in a row ended without a machine. `past`: the job's leases, oldest first."""
    ended: set[str] = set()
    for lease in reversed(past):
        if lease.state is not LeaseState.RELEASED:
            continue
        if lease.instance_id is not None and lease.request_id not in ended:
            break
        ended.add(lease.request_id)
    return len(ended)


def must_hold(reason: str | None, number: int) -> bool:
    """Whether the job is held until somebody releases it, rather than tried again. `number`: as of `rounds`."""
    said = reason or ""
    return NEVER in said or (said.startswith(NOTHING) and number > _ROUNDS)


def over_limit(limits: Limits, count: int, rate: Decimal) -> str | None:
    """Why `count` machines at `rate` an hour, all together, are too many; None: they are not."""
    if limits.max_nodes is not None and count > limits.max_nodes:
        return f"[limits] max_nodes = {limits.max_nodes} is reached"
    if limits.max_usd_per_hour is not None and rate > limits.max_usd_per_hour:
        return f"[limits] max_usd_per_hour = {limits.max_usd_per_hour} would be passed ({rate})"
    return None
