"""What the ledger's history teaches about chances of success, kept in memory and learned anew from time to time."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from broker.core.offers import Offer
from broker.db import observations
from broker.db.engine import reading
from broker.placement.chances import Chance, Model, Purchases, fit

# Older history weighs less than an eighth of today's. Longer costs time at each fit; shorter forgets a quiet weekend.
_LOOKED_AT = timedelta(days=3)
# Between two fits, readings count by their age and purchases as they happen; only half-lives wait.
_FIT_AGAIN = timedelta(minutes=10)


class Forecast:
    """One a daemon; any thread may ask and tell."""

    def __init__(self) -> None:
        self._model = Model()
        self._fitted_at: datetime | None = None
        self._lock = threading.Lock()

    @property
    def model(self) -> Model:
        """What is known now; it never changes, the next one takes its place."""
        return self._model

    def learn_if_due(self, engine: Engine, now: datetime) -> None:
        """Learn from the ledger, if that was not done lately."""
        with self._lock:
            if self._fitted_at is not None and now - self._fitted_at < _FIT_AGAIN:
                return
            self._fitted_at = now
        with reading(engine) as db:
            self.learn(db, now)

    def learn(self, db: Connection, now: datetime) -> None:
        """Learn from the ledger's last days."""
        since = now - _LOOKED_AT
        seen = observations.history(db, since)
        looks = {provider: observations.looks(db, provider, since) for provider in {one.sku.provider for one in seen}}
        model = fit(seen, looks, now)
        with self._lock:
            self._model, self._fitted_at = model, now

    def bought(self, offer: Offer, accepted: bool) -> None:
        """A purchase was answered: that counts from now on."""
        with self._lock:
            purchases = dict(self._model.purchases)
            for key in ((offer.provider,), (offer.provider, offer.instance_type, offer.zone)):
                before = purchases.get(key, Purchases())
                purchases[key] = Purchases(tried=before.tried + 1, refused=before.refused + (not accepted))
            self._model = replace(self._model, purchases=purchases)

    def chance(self, offer: Offer, now: datetime) -> Chance:
        return self._model.chance(offer, now)
