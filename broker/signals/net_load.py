"""Demand and net demand of a zone (demand less wind and solar), measured or forecast."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class NetLoad:
    """Mean power over [`start`, `end`) in MW. Net load is below nought when wind and solar exceed demand.

    `issued_at`: when the operator said it, None where they do not say.
    """

    start: datetime
    end: datetime
    load_mw: float
    net_load_mw: float
    is_forecast: bool
    issued_at: datetime | None = None
