import pytest
from factories import Clock

from broker.db.engine import open_ledger


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def engine(tmp_path):
    engine = open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    yield engine
    engine.dispose()
