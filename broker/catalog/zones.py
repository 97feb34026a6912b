"""Where a provider's region is and which grid feeds it, with how sure that is (`zones.toml`)."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any


class Confidence(StrEnum):
    """`high`: the provider names the place, and one grid feeds it. `low`: assumed, or a host's own word."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Location:
    """A region of a provider of the kind `provider`. `zone`: Electricity Maps' key of its grid; None: not known.

    Degrees, north and east above nought; None: no place is known.
    """

    provider: str
    region: str
    zone: str | None
    confidence: Confidence
    place: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    note: str | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Zones:
    """The whole table. A decision that used it keeps `version`."""

    version: int
    as_of: date
    locations: Mapping[tuple[str, str], Location]


@cache
def known() -> Zones:
    """The table of `zones.toml`, keyed by kind of provider and region in lower case."""
    table = tomllib.loads(Path(__file__).with_name("zones.toml").read_text())
    rows = [_location(row, table["source"]) for row in table["region"]]
    return Zones(
        version=table["version"],
        as_of=table["as_of"],
        locations={(row.provider, row.region.lower()): row for row in rows},
    )


def locate(kind: str, region: str) -> Location:
    """What is known of the zone of an offer, as its adapter spells it. Never an error: a region we have not heard of has no grid.

    Vast's hosts say where they are in words (`Texas, US`, or `us-texas` as the adapter writes it): the state where it is
    known, else the country.
    """
    words = _words(region) if kind == "vast" else region.lower()
    while words:
        found = known().locations.get((kind, words))
        if found is not None:
            return replace(found, region=region)
        words = words.rpartition("-")[0] if kind == "vast" else ""
    return Location(provider=kind, region=region, zone=None, confidence=Confidence.NONE, note="a region we do not know")


_COUNTRIES = {"united-states": "us", "united-kingdom": "gb", "uk": "gb"}


def _words(geolocation: str) -> str:
    place, _, country = geolocation.rpartition(",")
    parts = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in (country, place)]
    text = "-".join(part for part in parts if part)
    for name, code in _COUNTRIES.items():
        if text == name or text.startswith(f"{name}-"):
            return code + text[len(name) :]
    return text


def _location(row: Mapping[str, Any], sources: Mapping[str, str]) -> Location:
    return Location(
        provider=row["provider"],
        region=row["region"],
        zone=row.get("zone"),
        confidence=Confidence(row["confidence"]),
        place=row.get("place"),
        country=row.get("country"),
        latitude=row.get("latitude"),
        longitude=row.get("longitude"),
        note=row.get("note"),
        source=sources[row["provider"]],
    )
