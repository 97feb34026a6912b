"""Every hour, and soon after a refusal, each credential is tried by a call that buys nothing; what came of it is kept."""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

from broker.core.blocks import Cause
from broker.core.errors import CredentialsRefused, ProviderError
from broker.db import blocks, looks, residue
from broker.db.engine import reading
from broker.db.looks import Look
from broker.providers.base import Provider
from broker.reconcile import breakers
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.probe")

_EVERY = timedelta(hours=1)


def find(world: World) -> Iterable[Task]:
    """A task for each credential whose last look is an hour old, or whose refusal is to be looked at again."""
    now = world.clock()
    with reading(world.engine) as db:
        last = looks.latest(db)
        refused = [block for block in blocks.current(db) if block.cause is Cause.REFUSED]
    again = {block.provider for block in refused if block.until is None or block.until <= now}
    for name, provider in world.providers.items():
        if name not in last or now - last[name].at >= _EVERY or name in again:
            yield Task(key=f"probe:{name}", run=partial(look, world, provider))
    yield Task(key="probe:forget", run=partial(forget, world))


def look(world: World, provider: Provider) -> None:
    """Ask for the credential's instances. A silence says nothing of the credential; a refusal suspends it."""
    began = time.monotonic()
    error: ProviderError | None = None
    try:
        provider.instances()
    except ProviderError as exc:
        error = exc
    seconds, now = time.monotonic() - began, world.clock()
    with world.engine.begin() as db:
        looks.record(
            db, Look(provider=provider.name, at=now, error=None if error is None else str(error), seconds=seconds)
        )
        if isinstance(error, CredentialsRefused):
            breakers.credential_refused(db, provider.name, error, now)
        taken = error is None and breakers.credential_taken(db, provider.name, now)
    if error is not None:
        log.warning("provider=%s does not take a call that buys nothing: %s", provider.name, error)
    if taken:
        world.nudge()


def forget(world: World) -> None:
    """Blocks, their history and residue of long ago tell nothing any more."""
    with world.engine.begin() as db:
        blocks.forget(db, world.clock())
        residue.forget(db, world.clock())
