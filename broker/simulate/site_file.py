"""The site of a replay: which offers there are, read from TOML."""

import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from broker.core.offers import CapacityType
from broker.simulate.supply import Supply, constant, recorded
from broker.simulate.trace import Unreadable


@dataclass(frozen=True, kw_only=True)
class SiteOffer:
    """One provider and region. Money and power are a device's (a GPU's); times are hours."""

    name: str
    zone: str
    market: CapacityType
    supply: Supply
    billing_step_h: float
    billing_minimum_h: float
    boot_p50_h: float
    boot_p90_h: float
    fails: float
    pue: float
    hazard_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Site:
    """`kw_per_device` while a job runs; `idle_power` of it while a machine boots."""

    offers: tuple[SiteOffer, ...]
    kw_per_device: float
    idle_power: float
    checkpoint_h: float | None = None
    notes: tuple[str, ...] = field(default=())


_NUMBERS = {
    "usd_per_device_hour": None, "devices": 1e9, "billing_step_s": 60.0, "billing_minimum_s": 0.0, "boot_p50_s": 240.0,
    "boot_p90_s": 480.0, "fails": 0.0, "pue": 1.3, "hazard_per_hour": 0.0,
}  # fmt: skip
_TEXTS = {"name", "zone", "market", "recording", "provider"}
_SITE = {"kw_per_device": 0.85, "idle_power": 0.2, "checkpoint_s": 0.0}


def read_site(path: Path) -> Site:
    """The site of a TOML file; recordings are looked for beside it. Unreadable: names the key, the reason, the mend."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise Unreadable(f"{path}: {exc}") from exc
    _known(path, "the top", document, {*_SITE, "offer"})
    tables = document.get("offer")
    if not isinstance(tables, list) or not tables:
        raise Unreadable(f"{path}: no [[offer]]: a site needs at least one")
    offers = tuple(_offer(path, table) for table in tables)
    names = [offer.name for offer in offers]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Unreadable(f"{path}: two offers are named {', '.join(sorted(twice))}")
    site = {key: _number(path, "the top", document, key, default) for key, default in _SITE.items()}
    return Site(
        offers=offers,
        kw_per_device=site["kw_per_device"],
        idle_power=site["idle_power"],
        checkpoint_h=site["checkpoint_s"] / 3600 or None,
    )


def _offer(path: Path, table: dict[str, Any]) -> SiteOffer:
    name = table.get("name")
    where = f"offer {name}" if name else "an [[offer]]"
    _known(path, where, table, {*_NUMBERS, *_TEXTS})
    for key in ("name", "zone"):
        if not isinstance(table.get(key), str) or not table[key]:
            raise Unreadable(f'{path}: {where} has no {key}; write {key} = "…"')
    number = {key: _number(path, where, table, key, default) for key, default in _NUMBERS.items()}
    if not number["fails"] < 1:
        raise Unreadable(f"{path}: {where}: fails is the share of boots that come to nothing, below 1")
    try:
        market = CapacityType(table.get("market", "on_demand"))
    except ValueError as exc:
        raise Unreadable(f"{path}: {where}: market is one of {', '.join(CapacityType)}") from exc
    price, devices = number["usd_per_device_hour"], number["devices"]
    recording = table.get("recording")
    supply = (
        constant(price, devices)
        if recording is None
        else recorded(path.parent / recording, price, devices, table.get("provider"))
    )
    return SiteOffer(
        name=table["name"],
        zone=table["zone"],
        market=market,
        supply=supply,
        billing_step_h=number["billing_step_s"] / 3600,
        billing_minimum_h=number["billing_minimum_s"] / 3600,
        boot_p50_h=number["boot_p50_s"] / 3600,
        boot_p90_h=max(number["boot_p90_s"], number["boot_p50_s"]) / 3600,
        fails=number["fails"],
        pue=number["pue"],
        hazard_per_hour=number["hazard_per_hour"],
    )


def _known(path: Path, where: str, table: dict[str, Any], keys: set[str]) -> None:
    for key in table:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(keys))}"
            raise Unreadable(f"{path}: {where}: there is no key {key}; {hint}")


def _number(path: Path, where: str, table: dict[str, Any], key: str, default: float | None) -> float:
    value = table.get(key, default)
    if value is None:
        raise Unreadable(f"{path}: {where} has no {key}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise Unreadable(f"{path}: {where}: {key} = {value!r} is not a number of at least 0")
    return float(value)
