"""Where recorded bodies lie: small ones in tests/data/grid, all of them in ../shared/data where a checkout has it."""

import gzip
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SMALL = ROOT / "tests" / "data" / "grid"
RECORDED = next((path for path in (ROOT / "shared/data", ROOT.parent / "shared/data") if path.is_dir()), None)


def recorded(path):
    """A recorded body as it came, ungzipped; skips, and says so, where the recordings are not."""
    if RECORDED is None:
        pytest.skip(f"../shared/data/grid/{path} is not here: the larger recordings do not travel with the repository")
    body = (RECORDED / "grid" / path).read_bytes()
    return gzip.decompress(body) if path.endswith(".gz") else body


def small(name):
    return (SMALL / name).read_bytes()
