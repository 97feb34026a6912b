import pytest
from contract.loopback import Loopback


@pytest.fixture(scope="module")
def loopback():
    with Loopback() as server:
        yield server
