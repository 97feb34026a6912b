"""Provider regions and their grids: every region of the data, and what holds for all of them."""

import csv
import json
import re

import pytest
from unit.signals.conftest import RECORDED

from broker.catalog.zones import Confidence, known, locate


def rows(path):
    if RECORDED is None:
        pytest.skip(f"../shared/data/{path} is not here")
    return list(csv.DictReader((RECORDED / path).read_text().splitlines()))


@pytest.mark.parametrize(
    ("kind", "region", "zone", "confidence"),
    [
        ("lambda", "us-west-1", "US-CAL-CISO", "medium"),
        ("lambda", "us-south-3", "US-TEX-ERCO", "high"),
        ("lambda", "us-southeast-1", None, "none"),
        ("lambda", "moon-1", None, "none"),
        ("coreweave", "EU-NORTH-02", "NO-NO2", "high"),
        ("coreweave", "US-WEST-09", "US-NW-GCPD", "low"),
        ("verda", "FIN-02", "FI", "high"),
        ("verda", "ICE-01", "IS", "high"),
        ("vast", "Texas, US", "US-TEX-ERCO", "low"),
        ("vast", "us-texas", "US-TEX-ERCO", "low"),
        ("vast", "us-texas-dallas", "US-TEX-ERCO", "low"),
        ("vast", "California, United States", "US-CAL-CISO", "low"),
        ("vast", ", US", None, "none"),
        ("vast", "us", None, "none"),
        ("vast", "us-atlantis", None, "none"),
        ("vast", "Guangxi, CN", None, "none"),
        ("vast", "Sweden, SE", None, "none"),
        ("vast", "Quebec, CA", "CA-QC", "low"),
        ("vast", "Taichung City, TW", "TW", "low"),
        ("vast", "unknown", None, "none"),
        ("vast", "", None, "none"),
    ],
)
def test_a_region_has_its_grid_and_how_sure_that_is(kind, region, zone, confidence):
    found = locate(kind, region)

    assert (found.zone, found.confidence, found.region) == (zone, confidence, region)


@pytest.mark.parametrize(
    ("kind", "path", "column"),
    [
        ("lambda", "offers/lambda/lambda-regions.csv", "region"),
        ("coreweave", "offers/coreweave/coreweave-zones.csv", "zone"),
    ],
)
def test_every_region_of_the_data_is_in_the_table_where_the_data_says(kind, path, column):
    for row in rows(path):
        found = known().locations[kind, row[column].lower()]

        assert (found.place or "", found.country or "") == (row["place"], row["country"])
        assert (found.latitude, found.longitude) == (
            (float(row["lat"]), float(row["lon"])) if row["lat"] else (None, None)
        )
        assert (found.zone is None) == (not row["place"])


def test_every_region_that_verda_and_vast_have_named_is_found():
    if RECORDED is None:
        pytest.skip("../shared/data/offers is not here")
    verda = json.loads((RECORDED / "offers/multi/verda-responses-sample.json").read_text())["locations"]
    vast = {row["Region"].rsplit(",", 1)[0] for row in rows("offers/vast/skypilot-catalog-vast-vms.csv")}

    assert all(locate("verda", row["code"]).country == row["country_code"] for row in verda)
    assert {name for name in vast if locate("vast", name).country is None} == set()


def test_lambdas_polled_regions_are_all_known():
    polls = rows("offers/lambda/lambda-capacity-poll-2026-08-31.csv")
    polled = {region for row in polls for region in re.findall(r"[a-z]+-[a-z]+-\d", row["regions_with_capacity"])}

    assert len(polled) > 3
    assert {region for region in polled if ("lambda", region) not in known().locations} == set()


def test_what_holds_for_every_row():
    table = known()

    assert table.version >= 1
    for found in table.locations.values():
        assert (found.zone is None) == (found.confidence is Confidence.NONE)
        assert (found.latitude is None) == (found.longitude is None)
        assert found.latitude is None or (abs(found.latitude) <= 90 and abs(found.longitude) <= 180)
        assert found.zone is None or found.country is None or found.zone.startswith(found.country)
        assert found.source
        assert found.provider != "vast" or found.confidence in {Confidence.LOW, Confidence.NONE}
