"""Writes what a meter outside must be told, in the transaction that writes the usage: neither is ever without the other."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from broker.billing.booking import Entry
from broker.billing.terms import Terms
from broker.billing.usage_events import added, message
from broker.db import billing_terms, outbox


@dataclass(frozen=True, kw_only=True)
class UsageOutbox:
    """`cluster`: part of each message's identifier."""

    cluster: str

    def tell(self, db: Connection, entries: list[Entry], now: datetime) -> None:
        """One message an account, meter and hour that the entries touch."""
        for key, more_us in added(entries, Terms(billing_terms.every(db))).items():
            revision, before_us = outbox.last(db, key)
            told = message(self.cluster, key, more_us, before_us, revision + 1)
            if told is not None:
                outbox.add(db, told)
