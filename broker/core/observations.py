"""What was seen of an offer, and when."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from broker.core.offers import Offer


class Source(StrEnum):
    """How we know: a list told so, or a purchase (or a test purchase) came to an end."""

    LISTING = "listing"
    CREATE_REFUSED = "create_refused"
    CREATE_ACCEPTED = "create_accepted"
    PROBE = "probe"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """`offer` as it was told or tried; `available` is what was seen at `at`, whatever the offer says of itself."""

    offer: Offer
    available: bool
    at: datetime
    source: Source


@dataclass(frozen=True, kw_only=True)
class Sku:
    """What a chance of success speaks of: a credential's instance type in a zone, by capacity type."""

    provider: str
    instance_type: str
    zone: str
    capacity_type: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One line of history: what an offer of the sku was found to be."""

    offer_id: str
    sku: Sku
    at: datetime
    price_per_hour: Decimal
    available: bool
    source: Source


@dataclass(frozen=True, kw_only=True)
class Look:
    """A reading of all offers of a credential, written down. `polls`: how many readings it stands for; `changes`: how many
    offers it showed to be otherwise than before.

    `left_out`: why rows of the answer were not used, and how many of each. One that is not `believed` changed nothing,
    and `note` says why.
    """

    provider: str
    at: datetime
    polls: int
    rows: int
    changes: int
    believed: bool
    note: str | None
    left_out: dict[str, int]
