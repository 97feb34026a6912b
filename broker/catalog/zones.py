"""Where providers' zones are, and whose grid feeds them. Pure; `zones.toml` beside it says whose word that is."""

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any


class Confidence(StrEnum):
    """How much a figure of ours that nobody measured is worth."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, kw_only=True)
class Location:
    """`grid_zone`: a zone of Electricity Maps; None: not known. `place` may be empty: then only the country is known."""

    place: str
    country: str
    grid_zone: str | None
    confidence: Confidence


@cache
def place_of(kind: str, zone: str) -> Location | None:
    """Of a zone of a kind of provider (`lambda`). None: nobody knows where that is."""
    row = _table().get(kind, {}).get(zone)
    if row is not None:
        return Location(
            place=row["place"],
            country=row["country"],
            grid_zone=row.get("grid"),
            confidence=Confidence(row["confidence"]),
        )
    if kind not in _table()["by_country"]["kinds"]:
        return None
    country, _, place = zone.partition("-")
    if not re.fullmatch("[a-z]{2}", country):
        return None
    state = _table()["states"].get(country, {}).get(place)
    alone = country.upper() if country.upper() in _table()["by_country"]["grids"] else None
    words = place.replace("-", " ").title()
    return Location(place=words, country=country.upper(), grid_zone=state or alone, confidence=Confidence.LOW)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("zones.toml").read_text())
