"""Reads what each credential could buy, and notices credentials that no longer work."""

import logging
from collections.abc import Iterable
from functools import partial

from broker.core.errors import CredentialsRefused
from broker.db import offers
from broker.db.engine import reading
from broker.providers.base import Provider
from broker.reconcile import breakers
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.offers")


def find(world: World) -> Iterable[Task]:
    """A task for each credential."""
    for provider in world.providers.values():
        yield Task(key=f"offers:{provider.name}", run=partial(refresh, world, provider))


def refresh(world: World, provider: Provider) -> None:
    """Put the newest complete reading in the place of the last one; a failed reading changes nothing."""
    try:
        seen = provider.offers()
    except CredentialsRefused as exc:
        with world.engine.begin() as db:
            breakers.credential_refused(db, provider.name, exc, world.clock())
        return
    for reason, count in seen.reasons():
        log.info("provider=%s left out %d rows of its offers: %s", provider.name, count, reason)
    with reading(world.engine) as db:
        first = not any(offer.provider == provider.name for offer in offers.current(db))
    with world.engine.begin() as db:
        offers.replace_all(db, provider.name, seen.offers)
        refused = breakers.credential_taken(db, provider.name, world.clock())
    if first or refused:
        world.nudge()
