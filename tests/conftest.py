import pytest
from factories import Clock
from postgres import MISSING, Server, programs

from broker.db.engine import open_ledger


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def postgres():
    found = programs()
    if found is None:
        pytest.skip(MISSING)
    server = Server(found)
    try:
        server.make_template()
        yield server
    finally:
        server.remove()


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
