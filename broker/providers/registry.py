"""Kind of provider → how its adapter is made. A new provider is one file beside this one and one line here."""

from collections.abc import Callable, Mapping
from datetime import datetime

import httpx

from broker.providers.base import Provider
from broker.providers.http import Pace
from broker.providers.lambda_cloud import BASE_URL as LAMBDA_URL
from broker.providers.lambda_cloud import LambdaProvider

# Connect fast or not at all; a launch may take its time, and giving up on it early makes its outcome unknown.
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


# Shorter than any server's patience with an idle connection: one that the server closes in the moment we use it makes
# the outcome of a create unknown.
_CONNECTIONS = httpx.Limits(keepalive_expiry=1.0)


def _lambda(
    name: str, api_key: str, base_url: str | None, regions: frozenset[str], clock: Callable[[], datetime], pace: Pace
) -> Provider:
    http = httpx.Client(
        base_url=base_url or LAMBDA_URL,
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=_TIMEOUT,
        limits=_CONNECTIONS,
    )
    return LambdaProvider(name, http, clock, regions=regions, pace=pace)


Maker = Callable[[str, str, str | None, frozenset[str], Callable[[], datetime], Pace], Provider]
MAKERS: Mapping[str, Maker] = {"lambda": _lambda}
KINDS = frozenset(MAKERS)
URLS: Mapping[str, str] = {"lambda": LAMBDA_URL}
"""Kind of provider → its API's own address, where the configuration names no other."""
