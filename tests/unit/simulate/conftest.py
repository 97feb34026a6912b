"""The data that the tests carry, and where a project checkout keeps the whole of it."""

import os
from pathlib import Path

import pytest

CARRIED = Path(__file__).parents[2] / "data" / "simulate"
PAI_1K = CARRIED / "pai_1k.csv.gz"
FOUR_ZONES = CARRIED / "four_zones_720h.csv.gz"


@pytest.fixture
def shared():
    """`../shared/data` beside the checkout, or BROKER_SHARED_DATA: traces too large to carry."""
    place = Path(os.environ.get("BROKER_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (place / "carbon").is_dir():
        pytest.skip(f"needs the traces of ../shared/data, which is not at {place}")
    return place
