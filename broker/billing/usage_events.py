"""What a meter outside (Stripe's) is told of usage: GPU-seconds an hour, as differences that add up to the ledger."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from broker.billing.booking import Entry
from broker.billing.charges import unit_name
from broker.billing.terms import Terms

_HOUR = timedelta(hours=1)
_US = timedelta(microseconds=1)
_DECIMALS = 12
"""Stripe takes no more of a value."""


@dataclass(frozen=True, kw_only=True)
class MeterKey:
    """Whose usage of what in which hour. `meter`: a GPU model, or `cpu`."""

    account: str
    meter: str
    hour: datetime

    @property
    def timestamp(self) -> datetime:
        """The last second of the hour: still in its billing period."""
        return self.hour + _HOUR - timedelta(seconds=1)

    @property
    def sendable_at(self) -> datetime:
        """No sooner: its timestamp would lie ahead."""
        return self.hour + _HOUR


@dataclass(frozen=True, kw_only=True)
class UsageMessage:
    """`value`: GPU-seconds to add, at most 12 decimals, negative where usage was taken back. `total_us`: after it; exact."""

    key: MeterKey
    revision: int
    identifier: str
    value: Decimal
    total_us: Fraction


def added(entries: Iterable[Entry], terms: Terms) -> dict[MeterKey, Fraction]:
    """Microseconds that these entries add to each hour; the share of them that is charged at all."""
    sums: dict[MeterKey, Fraction] = defaultdict(Fraction)
    for entry in entries:
        piece, account = entry.slice, entry.slice.payer.account
        if account is None:
            continue
        at = piece.began_at
        while at < piece.ended_at:
            hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            high = min(hour + _HOUR, piece.ended_at)
            percent, _ = terms.share(at, account, piece.kind)
            units = Fraction((high - at) // _US * piece.part * entry.units * entry.sign, piece.parts)
            if percent:
                key = MeterKey(account=account, meter=unit_name(entry.accelerator), hour=hour)
                sums[key] += units * Fraction(percent) / 100
            at = high
    return {key: sums[key] for key in sorted(sums, key=lambda each: (each.hour, each.account, each.meter)) if sums[key]}


def message(cluster: str, key: MeterKey, more_us: Fraction, before_us: Fraction, revision: int) -> UsageMessage | None:
    """What to tell after `more_us` came to the hour's `before_us`; None: too little to be told."""
    total = before_us + more_us
    value = _seconds(total) - _seconds(before_us)
    if not value:
        return None
    return UsageMessage(
        key=key, revision=revision, identifier=identifier(cluster, key, revision), value=value, total_us=total
    )


def identifier(cluster: str, key: MeterKey, revision: int) -> str:
    """The same for the same message, whoever makes it and however often."""
    parts = (cluster, key.account, key.meter, key.hour.astimezone(UTC).isoformat(), str(revision))
    return "broker-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:48]


def _seconds(microseconds: Fraction) -> Decimal:
    scaled = round(microseconds * 10 ** (_DECIMALS - 6))
    # Without an exponent: the value is sent as text.
    return Decimal(scaled).scaleb(-_DECIMALS)


def value_text(value: Decimal) -> str:
    """As it is sent: plain digits, no needless nought."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
