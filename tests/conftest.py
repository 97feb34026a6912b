import pytest
from factories import Clock
from postgres import a_server

from broker.db.engine import open_ledger


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def postgres():
    yield from a_server()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request, tmp_path):
    """A ledger of this test's own, on each of the two databases."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'broker.db'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.new_ledger()
    yield url
    server.drop(url)


@pytest.fixture
def engine(ledger_url):
    engine = open_ledger(ledger_url)
    yield engine
    engine.dispose()
