"""Folds old observations of offers into hours and days, a few at a time."""

import logging
from collections.abc import Iterable

from broker.db import folding
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.offers")

_RETENTION = folding.Retention()


def find(world: World) -> Iterable[Task]:
    yield Task(key="history", run=lambda: fold(world))


def fold(world: World) -> None:
    """Each transaction takes a few offers: purchases must not wait for housekeeping."""
    folded = 0
    while True:
        with world.engine.begin() as db:
            more = folding.fold(db, world.clock(), _RETENTION)
            if not more:
                folding.forget_readings(db, world.clock(), _RETENTION)
                break
        folded += more
    if folded:
        log.info("offers=%d observations older than %s were folded into hours", folded, _RETENTION.observations)
