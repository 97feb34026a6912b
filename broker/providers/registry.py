"""Kind of provider → how its adapter is made. A new provider is one file beside this one and one line here."""

from collections.abc import Callable, Mapping
from datetime import datetime

import httpx

from broker.config import ProviderSettings
from broker.core.errors import ConfigError
from broker.providers.base import Provider
from broker.providers.http import Hear, HeardClient, Pace, heard_sleep
from broker.providers.lambda_cloud import BASE_URL as LAMBDA_URL
from broker.providers.lambda_cloud import LambdaProvider
from broker.providers.vast import BASE_URL as VAST_URL
from broker.providers.vast import VastProvider

# Connect fast or not at all; a launch may take its time, and giving up on it early makes its outcome unknown.
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


# Shorter than any server's patience with an idle connection: one that the server closes in the moment we use it makes
# the outcome of a create unknown.
_CONNECTIONS = httpx.Limits(keepalive_expiry=1.0)


def make_providers(
    wanted: Mapping[str, ProviderSettings], clock: Callable[[], datetime], hear: Hear = lambda exchange: None
) -> dict[str, Provider]:
    """An adapter for each credential; `hear` is told of each of their calls. ConfigError: a kind nobody knows."""
    for name, settings in wanted.items():
        if settings.kind not in MAKERS:
            known = ", ".join(sorted(MAKERS))
            raise ConfigError(f"[provider.{name}] kind = {settings.kind!r}: known kinds are {known}")
    return {name: MAKERS[settings.kind](settings, clock, hear) for name, settings in wanted.items()}


def _lambda(settings: ProviderSettings, clock: Callable[[], datetime], hear: Hear) -> Provider:
    return LambdaProvider(
        settings.name,
        _http(settings, hear, LAMBDA_URL),
        clock,
        regions=frozenset(settings.regions),
        pace=_pace(settings),
        sleep=heard_sleep(settings.name, hear),
    )


def _vast(settings: ProviderSettings, clock: Callable[[], datetime], hear: Hear) -> Provider:
    return VastProvider(
        settings.name,
        _http(settings, hear, VAST_URL),
        clock,
        image=settings.image or "",
        regions=frozenset(settings.regions),
        pace=_pace(settings),
        sleep=heard_sleep(settings.name, hear),
    )


def _http(settings: ProviderSettings, hear: Hear, url: str) -> httpx.Client:
    return HeardClient(
        settings.name,
        hear,
        base_url=settings.base_url or url,
        headers={"Authorization": f"Bearer {settings.api_key.reveal()}"},
        timeout=_TIMEOUT,
        limits=_CONNECTIONS,
    )


def _pace(settings: ProviderSettings) -> Pace:
    calls, creates = settings.call_interval_ms, settings.create_interval_ms
    return Pace(
        calls=None if calls is None else calls / 1000,
        creates=None if creates is None else creates / 1000,
    )


Maker = Callable[[ProviderSettings, Callable[[], datetime], Hear], Provider]
MAKERS: Mapping[str, Maker] = {"lambda": _lambda, "vast": _vast}
KINDS = frozenset(MAKERS)
URLS: Mapping[str, str] = {"lambda": LAMBDA_URL, "vast": VAST_URL}
"""Kind of provider → its API's own address, where the configuration names no other."""
