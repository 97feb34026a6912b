"""Yearly means of zones (`annual.toml`): what is said when nothing newer is known."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from broker.core.readings import Scope


@dataclass(frozen=True, kw_only=True)
class Annual:
    """One zone's year, production, g/kWh."""

    zone: str
    year: int
    grams_per_kwh: dict[Scope, float]


@cache
def known() -> dict[str, Annual]:
    """Zone → its newest year."""
    rows = tomllib.loads(Path(__file__).with_name("annual.toml").read_text())["year"]
    found: dict[str, Annual] = {}
    for row in sorted(rows, key=lambda row: int(row["year"])):
        found[row["zone"]] = Annual(
            zone=row["zone"],
            year=row["year"],
            grams_per_kwh={scope: float(row[scope.value]) for scope in Scope},
        )
    return found
