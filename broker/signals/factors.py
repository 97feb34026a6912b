"""Emission factors: which fuel emits what, by whose book and since when (`factors.toml`)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from broker.core.errors import NotFound
from broker.core.readings import Scope
from broker.signals.mix import Fuel


@dataclass(frozen=True, kw_only=True)
class Factors:
    """One set. `name` with its version never changes its numbers: a correction is a new name. g of CO2e a kWh."""

    name: str
    scope: Scope
    source: str
    valid_from: date
    zones: frozenset[str]
    """The zones it was made for; empty: any."""
    grams_per_kwh: Mapping[Fuel, float]


@cache
def known() -> dict[str, Factors]:
    """Name → set, from `factors.toml`."""
    table = tomllib.loads(Path(__file__).with_name("factors.toml").read_text())
    return {row["name"]: _factors(row) for row in table["factors"]}


def named(name: str) -> Factors:
    """NotFound: there is no such set."""
    try:
        return known()[name]
    except KeyError as exc:
        raise NotFound(f"there is no set of factors '{name}'; the sets are {', '.join(sorted(known()))}") from exc


def for_zone(zone: str, scope: Scope) -> Factors:
    """The newest set made for `zone` in `scope`, else the newest for any zone."""
    fitting = [row for row in known().values() if row.scope is scope and (not row.zones or zone in row.zones)]
    return max(fitting, key=lambda row: (zone in row.zones, row.valid_from, row.name))


def _factors(row: Mapping[str, Any]) -> Factors:
    return Factors(
        name=row["name"],
        scope=Scope(row["scope"]),
        source=row["source"],
        valid_from=row["valid_from"],
        zones=frozenset(row.get("zones", ())),
        grams_per_kwh={Fuel(fuel): float(value) for fuel, value in row["grams_per_kwh"].items()},
    )
