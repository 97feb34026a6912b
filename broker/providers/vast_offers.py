"""Vast's asks as offers: each is one machine, so many of its GPUs, and one market. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from broker.catalog.accelerators import canonical
from broker.core.offers import CapacityType, Hardware, LeftOut, Offer, Reading

MARKETS: Mapping[CapacityType, str] = {CapacityType.ON_DEMAND: "ondemand", CapacityType.SPOT: "bid"}
"""Capacity type → the `type` of a search."""

HOURS_A_MONTH = 720
"""Vast's month, checked against two real records."""
SMALLEST_DISK_GB = 8
_GB_A_GIB = Decimal("1.073741824")
_GIB_MB = 1024
_NANO = Decimal("1e-9")
ABSURD_USD = Decimal(100_000)
"""No machine costs so much an hour: a price in another unit, or a joke."""
_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


class Unusable(Exception):
    """Why a row becomes no offer."""


def rows_of(answer: object) -> list[object]:
    """The rows of a search's answer. ValueError: it has none.

    The documentation's example shows one object where the API answers with a list: both are read.
    """
    rows = answer.get("offers") if isinstance(answer, dict) else None
    if isinstance(rows, dict):
        return [rows]
    if not isinstance(rows, list):
        raise ValueError(f"`offers` is {type(rows).__name__}")
    return rows


def read_offers(
    rows: Iterable[object], market: CapacityType, provider: str, zones: frozenset[str], now: datetime
) -> Reading:
    """The rows of one search as offers: of several asks for the same GPUs of one machine, the cheapest.

    `zones`: those that may be bought in, or their countries; empty: all.
    """
    cheapest: dict[str, Offer] = {}
    left_out = []
    for row in rows:
        try:
            offer = read_offer(row, market, provider, now)
            if zones and offer.zone not in zones and offer.zone.partition("-")[0] not in zones:
                raise Unusable("outside of the configured regions")
        except Unusable as exc:
            left_out.append(LeftOut(what=_called(row), reason=str(exc)))
            continue
        other = cheapest.get(offer.id)
        if other is not None:
            left_out.append(LeftOut(what=offer.instance_type, reason="another ask for the same GPUs of the machine"))
        if other is None or offer.price_per_hour < other.price_per_hour:
            cheapest[offer.id] = offer
    return Reading(offers=tuple(cheapest.values()), left_out=tuple(left_out))


def read_offer(row: object, market: CapacityType, provider: str, now: datetime) -> Offer:
    """One row. Unusable: it is no VM that we could reach, use and pay for."""
    if not isinstance(row, Mapping):
        raise Unusable("not an object")
    if row.get("vms_enabled") is not True:
        # Neither systemd nor the kernel's WireGuard runs in a container.
        raise Unusable("a container, not a VM")
    if row.get("rentable") is False or row.get("rented") is True:
        raise Unusable("rented out")
    if row.get("is_vm_deverified") is True:
        raise Unusable("its VMs are known to fail")
    if _whole(row, "direct_port_count") < 1:
        raise Unusable("no port by which SSH could reach a VM")
    ask_of(row)
    machine = str(machine_of(row))
    hardware = _hardware(row)
    if hardware.accelerator_count < 1:
        raise Unusable("no GPU")
    price = ask_price(row, market)
    disk = _amount(row, "storage_cost", "its disk has no price")
    return Offer(
        provider=provider,
        kind="vast",
        instance_type=instance_type(machine, hardware.accelerator_count),
        zone=zone(row.get("geolocation")),
        capacity_type=market,
        hardware=hardware,
        price_per_hour=price,
        currency="USD",
        available=True,
        observed_at=now,
        disk_price_per_gib_hour=(disk * _GB_A_GIB / HOURS_A_MONTH).quantize(_NANO, ROUND_CEILING),
        disk_min_gib=-(-SMALLEST_DISK_GB * 1000**3 // 1024**3),
        machine=machine,
        until=_until(row, now),
        egress_per_gb=_traffic(row, "inet_up_cost"),
        ingress_per_gb=_traffic(row, "inet_down_cost"),
    )


def ask_of(row: Mapping[str, Any]) -> int:
    """The id to buy it by: short-lived, never an identity. Unusable: it has none."""
    for key in ("ask_contract_id", "id"):
        value = row.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise Unusable("no ask to buy it by")


def machine_of(row: Mapping[str, Any]) -> int:
    """Unusable: the row names no machine."""
    value = row.get("machine_id")
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise Unusable("no machine is named")
    return value


def ask_price(row: Mapping[str, Any], market: CapacityType) -> Decimal:
    """USD an hour for the whole machine without its disk; of a bid: the least that wins now. Unusable: none, or absurd."""
    key = "min_bid" if market is CapacityType.SPOT else "dph_base"
    price = _amount(row, key, "its price is no amount above 0")
    if price <= 0:
        raise Unusable("its price is no amount above 0")
    return price


def disk_cost(row: Mapping[str, Any], disk_gb: int) -> Decimal:
    """USD an hour for a disk of that size. Unusable: it has no price."""
    return _amount(row, "storage_cost", "its disk has no price") * disk_gb / HOURS_A_MONTH


def disk_gb(disk_gib: int | None) -> int:
    """The size to ask for, in Vast's unit."""
    return max(SMALLEST_DISK_GB, -(-(disk_gib or 0) * 1024**3 // 1000**3))


def instance_type(machine: object, gpus: int) -> str:
    """The same machine with another number of GPUs is another thing to buy."""
    return f"{machine}x{gpus}"


def zone(geolocation: object) -> str:
    """`Guangxi, CN` → `cn-guangxi`, `, US` → `us`: the country first, as a word that a job can wish for.

    It is what the host said of itself.
    """
    place, _, country = (geolocation if isinstance(geolocation, str) else "").rpartition(",")
    words = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in (country, place)]
    return "-".join(word for word in words if word)[:100] or "unknown"


def number(value: object) -> Decimal | None:
    """A JSON number, or a text that is one, as an exact decimal; None: it is neither, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)[:50]) > 40:
        return None
    try:
        read = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return read if read.is_finite() and abs(read) < Decimal("1e15") else None


def _amount(row: Mapping[str, Any], key: str, problem: str) -> Decimal:
    value = number(row.get(key))
    if value is None or not 0 <= value < ABSURD_USD:
        raise Unusable(problem)
    return value


def _whole(row: Mapping[str, Any], key: str) -> int:
    value = number(row.get(key))
    return int(value) if value is not None and 0 <= value < 1e9 else 0


def _hardware(row: Mapping[str, Any]) -> Hardware:
    name = row.get("gpu_name")
    model = canonical(name) if isinstance(name, str) else None
    if model is None:
        raise Unusable("a GPU that the catalogue does not know")
    arch = _ARCHITECTURES.get(str(row.get("cpu_arch")).lower())
    if arch is None:
        raise Unusable("a CPU of an unknown kind")
    cores, usable = number(row.get("cpu_cores")) or Decimal(0), number(row.get("cpu_cores_effective")) or Decimal(0)
    share = min(Decimal(1), usable / cores) if cores > 0 else Decimal(1)
    hardware = Hardware(
        accelerator=model,
        accelerator_count=_whole(row, "num_gpus"),
        accelerator_memory_gib=round((number(row.get("gpu_ram")) or 0) / _GIB_MB) or None,
        cpus=int(max(Decimal(0), usable)),
        # `cpu_ram` is the whole machine's, also where only some of its GPUs are sold.
        memory_gib=int(_whole(row, "cpu_ram") * share / _GIB_MB),
        disk_gib=int(_whole(row, "disk_space") / _GB_A_GIB),
        cpu_arch=arch,
    )
    if min(hardware.cpus, hardware.memory_gib, hardware.disk_gib) <= 0:
        raise Unusable("a machine without CPU, memory or disk")
    return hardware


def _until(row: Mapping[str, Any], now: datetime) -> datetime | None:
    """The contract's end: the earlier of the date and the duration that the host allows."""
    ends = []
    if (end := number(row.get("end_date"))) is not None and 0 < end < 1e11:
        ends.append(datetime.fromtimestamp(float(end), UTC))
    if (left := number(row.get("duration"))) is not None and left < 1e10:
        ends.append(now + timedelta(seconds=float(max(Decimal(0), left))))
    return min(ends, default=None)


def _traffic(row: Mapping[str, Any], key: str) -> Decimal | None:
    value = number(row.get(key))
    return value if value is not None and 0 <= value < ABSURD_USD else None


def _called(row: object) -> str:
    if not isinstance(row, Mapping):
        return type(row).__name__
    return f"machine {str(row.get('machine_id'))[:20]}, ask {str(row.get('ask_contract_id', row.get('id')))[:20]}"
