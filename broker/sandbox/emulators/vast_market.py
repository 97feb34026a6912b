"""What the emulated Vast.ai sells: machines of strangers, and the short-lived asks for some of their GPUs."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.sandbox.emulators.vast_errors import bad_search

ASK_SECONDS = 60.0
"""So long an ask keeps its id; it can be bought by it for as long again."""
_OPERATORS = frozenset({"eq", "neq", "gt", "lt", "gte", "lte", "in", "notin"})
_PLAIN = frozenset({"type", "limit", "order", "allocated_storage"})
_MARKETS = frozenset({"ondemand", "on-demand", "bid", "reserved"})


@dataclass(frozen=True, kw_only=True)
class VastMachine:
    """One host's machine. Prices in USD: `dph_gpu`, `bid_gpu` an hour and GPU; `sold`: in which numbers of GPUs."""

    id: int
    host_id: int
    gpu_name: str
    gpu: str
    gpu_ram: int
    gpus: int
    sold: tuple[int, ...]
    cpu_cores: int
    cpu_ram: int
    disk_space: int
    dph_gpu: float
    bid_gpu: float
    storage_cost: float
    inet_up_cost: float
    inet_down_cost: float
    geolocation: str
    days: float
    vms_enabled: bool = True

    def shown(self, gpus: int) -> dict[str, Any]:
        """What offers and instances of `gpus` of its GPUs have in common."""
        share = gpus / self.gpus
        return {
            "machine_id": self.id,
            "host_id": self.host_id,
            "gpu_name": self.gpu_name,
            "gpu_arch": "nvidia",
            "gpu_ram": self.gpu_ram,
            "num_gpus": gpus,
            "gpu_frac": share,
            "cpu_arch": "amd64",
            "cpu_cores": self.cpu_cores,
            "cpu_cores_effective": float(int(self.cpu_cores * share)),
            "cpu_name": "AMD EPYC 7642 48-Core Processor",
            "cpu_ram": self.cpu_ram,
            "disk_bw": 2545.3,
            "geolocation": self.geolocation,
            "static_ip": False,
            "direct_port_count": 249,
            "reliability2": 0.9866,
            "verification": "verified",
            "storage_cost": self.storage_cost,
            "external": False,
        }


def shipped_machines() -> list[VastMachine]:
    """The machines of `vast_machines.toml`."""
    rows = tomllib.loads(Path(__file__).with_name("vast_machines.toml").read_text())["machine"]
    return [VastMachine(**{**row, "sold": tuple(row["sold"])}) for row in rows]


def ask_id(machine: VastMachine, gpus: int, now: float) -> int:
    """Another one every minute, as an ask is not the thing that is sold."""
    generation = int(now // ASK_SECONDS)
    return ((generation % 100_000) * 1_000_003 + machine.id * 17 + gpus) % 900_000_000 + 10_000_000


def ask(
    machine: VastMachine, gpus: int, market: str, now: float, storage_gb: float, least_bid: float
) -> dict[str, Any]:
    """One row of a search. `least_bid`: USD an hour that win now."""
    base = round(least_bid if market == "bid" else machine.dph_gpu * gpus, 6)
    disk = storage_gb * machine.storage_cost / 720
    number = ask_id(machine, gpus, now)
    return {
        "id": number,
        "ask_contract_id": number,
        **machine.shown(gpus),
        "gpu_total_ram": machine.gpu_ram * gpus,
        "disk_space": float(machine.disk_space),
        "dph_base": base,
        "dph_total": base + disk,
        "min_bid": least_bid,
        "is_bid": market == "bid",
        "inet_up": 777.0,
        "inet_down": 1059.0,
        "inet_up_cost": machine.inet_up_cost,
        "inet_down_cost": machine.inet_down_cost,
        "duration": machine.days * 86400.0,
        "end_date": now + machine.days * 86400.0,
        "rentable": True,
        "rented": False,
        "vms_enabled": machine.vms_enabled,
        "is_vm_deverified": False,
        "public_ipaddr": "203.0.113.10",
        "search": {"gpuCostPerHour": base, "diskHour": disk, "totalHour": base + disk},
    }


def find(rows: Iterable[dict[str, Any]], query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that `query` asks for, in its order. VastError: it cannot be understood."""
    tests = {key: value for key, value in query.items() if key not in _PLAIN}
    for key, value in tests.items():
        if not isinstance(value, Mapping) or not value or not set(value) <= _OPERATORS:
            raise bad_search(f"Error in search query: {key} needs an object of {', '.join(sorted(_OPERATORS))}")
    found = [row for row in rows if all(_fits(row, key, value) for key, value in tests.items())]
    order = query.get("order", [])
    if not isinstance(order, list) or not all(
        isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) and each[1] in {"asc", "desc"}
        for each in order
    ):
        raise bad_search('Error in search query: order is a list of ["field", "asc" or "desc"]')
    for name, way in reversed(order):
        found.sort(key=lambda row: (str(type(row.get(name))), _sortable(row.get(name))), reverse=way == "desc")
    limit = query.get("limit", 64)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise bad_search("Error in search query: limit is a whole number")
    return found[:limit]


def market_of(query: Mapping[str, Any]) -> str:
    """`ondemand` or `bid`. VastError: there is no such market."""
    market = query.get("type", "ondemand")
    if market not in _MARKETS:
        raise bad_search(f"Error in search query: type {json.dumps(market)[:50]}")
    return "bid" if market == "bid" else "ondemand"


def _fits(row: Mapping[str, Any], key: str, test: Mapping[str, Any]) -> bool:
    if key == "verified":
        value: Any = row.get("verification") == "verified"
    else:
        value = row.get(key)
    return all(_holds(value, operator, wanted) for operator, wanted in test.items())


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    try:
        match operator:
            case "eq":
                return bool(value == wanted)
            case "neq":
                return bool(value != wanted)
            case "in":
                return value in wanted
            case "notin":
                return value not in wanted
            case "gt":
                return bool(value > wanted)
            case "gte":
                return bool(value >= wanted)
            case "lt":
                return bool(value < wanted)
            case _:
                return bool(value <= wanted)
    except TypeError:
        raise bad_search(f"Error in search query: {re.sub('[^a-z]', '', operator)} of another type") from None


def _sortable(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else 0
