"""How far data is from a machine: what moving it there and back costs in money and time."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Between one offer's machines and the data of one job. Money in the offer's currency, floats: expectations.

    `missing_gb`: what is not at that place yet and must be brought.
    """

    missing_gb: float = 0.0
    usd_per_gb_in: float = 0.0
    """Egress of where the data lies and ingress of the offer's provider, the mean over `missing_gb`."""
    usd_per_gb_out: float = 0.0
    """Egress of the offer's provider to the site."""
    gb_per_hour: float = math.inf
    rtt_ms: float | None = None
    """From the site to the offer's zone; None: neither measured nor estimated."""
    rtt_measured: bool = False
    words: str = ""
    """For `broker why`: `imagenet (120 GB) lies there`, `120 GB come from us-east-1: 2.40 USD, 16 min`; empty: no data."""
