"""The site's configuration: the only reader of `broker.toml`, of secret files and of secrets in the environment."""

from broker.config.reading import InvalidConfig, Problem
from broker.config.sections import KINDS, load, parse
from broker.config.settings import (
    NodeSettings,
    Overlay,
    Policy,
    ProviderSettings,
    Secret,
    Settings,
    SignalSettings,
    Site,
    SlurmRoad,
    SlurmSettings,
)

__all__ = [
    "KINDS",
    "InvalidConfig",
    "NodeSettings",
    "Overlay",
    "Policy",
    "Problem",
    "ProviderSettings",
    "Secret",
    "Settings",
    "SignalSettings",
    "Site",
    "SlurmRoad",
    "SlurmSettings",
    "load",
    "parse",
]
