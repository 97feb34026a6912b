"""What is to be at Stripe once: the wish is written before the call, and whoever dies in between finds it again."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from broker.cashier.errors import CashierUnavailable, KeyUsedOtherwise
from broker.db import stripe
from broker.db.engine import reading

_KEYS_HOLD = timedelta(hours=23)
"""Stripe keeps idempotency keys for 24 hours at least; after that only a look tells whether the call was done."""

Find = Callable[[datetime], str | None]
"""From when the wish was written to the id of what is there; None: it is not there."""


@dataclass(frozen=True, kw_only=True)
class AtStripe:
    """`cluster`: two of them may share an account of Stripe's."""

    engine: Engine
    cluster: str
    clock: Callable[[], datetime]

    def named(self, name: str) -> str:
        """Our name of a thing, as Stripe keeps it."""
        return f"{self.cluster}/{name}"

    def once(self, kind: str, name: str, find: Find, make: Callable[[str], str]) -> str:
        """The thing's id, made now if it was not. `make` is given the idempotency key."""
        with reading(self.engine) as db:
            wish = stripe.wish(db, kind, name)
        if wish is not None and wish.stripe_id is not None:
            return wish.stripe_id
        tries = 1
        if wish is None:
            self._intend(kind, name, tries)
        else:
            found = find(wish.intended_at)
            if found is not None:
                return self._made(kind, name, found)
            tries = wish.tries
            if self.clock() - wish.intended_at > _KEYS_HOLD:
                tries += 1
                self._intend(kind, name, tries)
        try:
            made = make(self.key(kind, name, tries))
        except KeyUsedOtherwise as exc:
            # What we ask for has changed since the first try; that one is not there, or it would have been found.
            self._intend(kind, name, tries + 1)
            raise CashierUnavailable(f"{exc}; it is asked for anew at the next try") from exc
        return self._made(kind, name, made)

    def key(self, kind: str, name: str, tries: int) -> str:
        """The same for the same wish, whoever makes it; at most 255 characters."""
        digest = hashlib.sha256("\0".join((self.cluster, kind, name, str(tries))).encode()).hexdigest()
        return f"broker-{kind}-{digest[:48]}"

    def _intend(self, kind: str, name: str, tries: int) -> None:
        with self.engine.begin() as db:
            stripe.intend(db, kind, name, self.key(kind, name, tries), tries, self.clock())

    def _made(self, kind: str, name: str, stripe_id: str) -> str:
        with self.engine.begin() as db:
            stripe.made(db, kind, name, stripe_id, self.clock())
        return stripe_id
