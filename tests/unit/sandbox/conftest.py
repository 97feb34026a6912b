import pytest
from contract.lambda_emulator import KEY, PUBLIC_KEY, Seconds, a_cloud


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def cloud(seconds):
    """An emulated Lambda without limits whose first account has the key `mine`."""
    cloud = a_cloud(seconds)
    cloud.add_key(KEY, {"name": "mine", "public_key": PUBLIC_KEY})
    return cloud
