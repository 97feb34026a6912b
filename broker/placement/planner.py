"""Ranks what could be bought for one node and keeps why the rest fell out."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from broker.core.blocks import Blocks, Stop
from broker.core.demand import Limits, Request
from broker.core.offers import CapacityType, Offer

SOLD_OUT = "sold out"


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An offer left out. `reason` is a class of reasons shared by many offers, so that they can be counted.

    `stop`: what stands against it for a while; None: it does not fit, or is not on sale.
    """

    offer: Offer
    reason: str
    stop: Stop | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Usable offers, best first, and a reason for each of the others. `scores`: by which they are ranked."""

    offers: tuple[Offer, ...]
    scores: tuple[float, ...]
    rejections: tuple[Rejection, ...]

    def reasons(self) -> list[tuple[str, int]]:
        """How many offers fell out for which reason, the commonest first; with when the first of them is tried again."""
        counted = Counter(rejection.reason for rejection in self.rejections)
        again: dict[str, datetime] = {}
        for rejection in self.rejections:
            until = rejection.stop.until if rejection.stop is not None else None
            if until is not None:
                again[rejection.reason] = min(until, again.get(rejection.reason, until))
        return [
            (f"{reason} (again from {again[reason]:%H:%M:%S} UTC)" if reason in again else reason, count)
            for reason, count in sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
        ]


def certain(offer: Offer) -> float:
    """The chance of a purchase about which nothing is known."""
    return 1.0


def plan(
    request: Request,
    offers: Iterable[Offer],
    limits: Limits,
    trusted: frozenset[str],
    blocks: Blocks | None = None,
    chance: Callable[[Offer], float] = certain,
) -> Plan:
    """Rank the offers that fit `request` by `score`; ties go by offer id, so that the same input gives the same plan.

    `trusted`: credentials that may hold the cluster's munge key; `blocks`: what is not bought for a while;
    `chance`: how likely a purchase is to be answered with a machine, above 0.
    Limits of the whole site (nodes, money per hour) are not looked at here: they are checked with the intent to buy.
    """
    usable: list[tuple[float, str, Offer]] = []
    rejected: list[Rejection] = []
    for seen in offers:
        offer = seen.with_disk(request.shape.disk_gib)
        reason = _unfit(request, offer, limits, trusted)
        stop = blocks.stop(offer) if reason is None and blocks is not None else None
        if reason is not None:
            rejected.append(Rejection(offer=offer, reason=reason))
        elif stop is not None:
            rejected.append(Rejection(offer=offer, reason=stop.words, stop=stop))
        else:
            usable.append((score(offer, chance(offer)), offer.id, offer))
    usable.sort(key=lambda entry: entry[:2])
    return Plan(
        offers=tuple(offer for *_, offer in usable),
        scores=tuple(points for points, *_ in usable),
        rejections=tuple(rejected),
    )


# A refused purchase and the way to the next one take about a minute of a job that is taken to run for an hour. Smaller:
# the cheapest offer is tried however hopeless. Larger: a likely offer beats a cheap one, which costs money in each hour.
_ATTEMPT_S, _RUN_S = 60.0, 3600.0


def score(offer: Offer, chance: float) -> float:
    """Price an hour, with the time that failed attempts cost at that price:

    price * (1 + (1 - chance) / chance * 60 s / 3600 s), since (1 - chance) / chance purchases fail before one succeeds.
    """
    return float(offer.price_per_hour) * (1 + (1 - chance) / chance * _ATTEMPT_S / _RUN_S)


def _unfit(request: Request, offer: Offer, limits: Limits, trusted: frozenset[str]) -> str | None:
    return (
        _wrong_hardware(request, offer)
        or _against_wishes(request, offer)
        or _against_policy(offer, limits, trusted)
        or _not_now(request, offer)
    )


def _wrong_hardware(request: Request, offer: Offer) -> str | None:
    shape, hardware = request.shape, offer.hardware
    if shape.accelerator != hardware.accelerator:
        return f"not {shape.accelerator or 'a CPU machine'}"
    # More GPUs than the name promises would be paid for and never seen by Slurm.
    if shape.accelerator_count != hardware.accelerator_count:
        return f"not {shape.accelerator_count} GPU(s)"
    if hardware.cpu_arch != request.cpu_arch:
        return f"its CPU is not {request.cpu_arch}, which the node bundle was built for"
    if hardware.cpus < shape.cpus:
        return "too few CPUs"
    if hardware.memory_gib < shape.memory_gib:
        return "too little memory"
    if hardware.disk_gib < shape.disk_gib:
        return "too little disk"
    return None


def _against_wishes(request: Request, offer: Offer) -> str | None:
    wishes = request.wishes
    if wishes.zones and offer.zone not in wishes.zones:
        return "the job wishes other zones"
    if wishes.providers and not wishes.providers & {offer.provider, offer.kind}:
        return "the job wishes other providers"
    if wishes.spot == "only" and offer.capacity_type is not CapacityType.SPOT:
        return "the job wishes spot only"
    if wishes.spot not in {"only", "yes"} and offer.capacity_type is CapacityType.SPOT:
        return "spot, and the job did not ask for it"
    return None


def _against_policy(offer: Offer, limits: Limits, trusted: frozenset[str]) -> str | None:
    if offer.provider not in trusted:
        return 'provider not trusted with the cluster\'s key (trust = "none")'
    ceiling = limits.max_price_per_gpu_hour
    per_gpu = offer.price_per_hour / max(1, offer.hardware.accelerator_count)
    if ceiling is not None and per_gpu > ceiling:
        return f"above max_price_per_gpu_hour = {ceiling}"
    return None


def _not_now(request: Request, offer: Offer) -> str | None:
    if not offer.available:
        return SOLD_OUT
    if offer.id in request.excluded_offers:
        return "failed already for this node"
    if offer.until is not None and request.needed_until is not None and offer.until < request.needed_until:
        return "its provider takes the machine back before the job could end"
    if offer.id in request.too_slow:
        return "boots more slowly than Slurm waits for the node"
    if request.place is not None and (offer.provider, offer.zone) != (request.place.provider, request.place.zone):
        return "not where the other machines of its job stand"
    return None
