"""Reads what each credential could buy, keeps what changed, and notices credentials that no longer work."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from broker.catalog.zones import place_of
from broker.core.errors import CredentialsRefused, RateLimited
from broker.core.observations import Look, Source
from broker.core.offers import Offer, Reading
from broker.db import leases, observations, offers
from broker.db.engine import reading
from broker.providers.base import Provider
from broker.reconcile import belief, breakers, polling
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.offers")

# A reading that changes nothing is written down this often: it says that what was seen before was still so.
_STILL_SO = timedelta(minutes=5)
# A market of strangers has no end of odd places; a log of them has.
_WARNINGS = 200
# Jobs that nothing could be bought for come back after half an hour at most (`refusals.py`): they still wait.
_COMES_BACK = timedelta(minutes=35)


@dataclass
class _Watched:
    """What we remember of a credential between its readings."""

    begun: datetime
    looks: int = 0
    """Since the last reading that was written down."""
    flickers: Mapping[polling.Kind, bool] = field(default_factory=dict)
    not_before: datetime | None = None
    doubted: bool = False


class Refresh:
    """One a daemon."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._watched: dict[str, _Watched] = {}
        self._warned: set[tuple[str, str]] = set()

    def find(self) -> Iterable[Task]:
        """A task for each credential whose turn it is."""
        world, now = self._world, self._world.clock()
        with reading(world.engine) as db:
            waiting = leases.unserved_shapes(db, now - _COMES_BACK)
        shapes = [world.site.shapes[name] for name in waiting if name in world.site.shapes]
        wanted = {(shape.accelerator, shape.accelerator_count) for shape in shapes}
        for provider in world.providers.values():
            if self._is_due(provider.name, wanted, now):
                yield Task(key=f"offers:{provider.name}", run=partial(self.read, provider))

    def read(self, provider: Provider) -> None:
        """Put the newest complete reading in the place of the last one; a failed or doubted reading changes nothing."""
        world = self._world
        watched = self._watched.setdefault(provider.name, _Watched(begun=world.clock()))
        watched.begun = world.clock()
        try:
            found = provider.offers()
        except CredentialsRefused as exc:
            with world.engine.begin() as db:
                breakers.credential_refused(db, provider.name, exc, world.clock())
            return
        except RateLimited as exc:
            watched.not_before = world.clock() + timedelta(seconds=exc.retry_after)
            raise
        watched.looks += 1
        self._warn_of(provider.name, found)
        changed = self._keep(provider.name, found, watched)
        world.forecast.learn_if_due(world.engine, world.clock())
        watched.flickers = polling.flickering(found.offers, world.forecast.model, world.clock())
        if changed:
            world.nudge()

    def _is_due(self, name: str, wanted: Iterable[polling.Kind], now: datetime) -> bool:
        watched = self._watched.get(name)
        if watched is None:
            return True
        if watched.not_before is not None and now < watched.not_before:
            return False
        interval_s = polling.interval_s(wanted, watched.flickers, doubted=watched.doubted)
        return (now - watched.begun).total_seconds() >= interval_s

    def _keep(self, name: str, found: Reading, watched: _Watched) -> bool:
        """Whether there is something to buy that was not there before."""
        # Only this task writes the credential's offers, but for a refused purchase, which is an observation, too: nobody
        # need wait while a market's thousands are read and compared.
        with reading(self._world.engine) as db:
            before = {offer.id: offer for offer in offers.current(db, provider=name)}
        with self._world.engine.begin() as db:
            now = self._world.clock()
            last = observations.last_look(db, name)
            doubted = observations.doubted_since(db, name, last.at if last else None)
            why = belief.doubt(before.values(), found, doubted, now)
            taken = Look(
                provider=name,
                at=now,
                polls=watched.looks,
                rows=len(found.offers),
                changes=0,
                believed=why is None,
                note=why,
                left_out=dict(found.reasons()),
            )
            watched.doubted = why is not None
            if why is not None:
                observations.append_look(db, taken)
                watched.looks = 0
                self._warn(name, f"its offers as read now are not believed: {why}")
                return False
            fresh = _less_refused(db, belief.with_the_unseen(before, found, now))
            changed = belief.changes(before, fresh, now)
            observations.append(db, changed)
            offers.bring_up_to_date(db, name, before, fresh)
            if _worth_writing(last, replace(taken, changes=len(changed)), bool(doubted)):
                observations.append_look(db, replace(taken, changes=len(changed)))
                watched.looks = 0
            refused = breakers.credential_taken(db, name, now)
        come = any(one.available for one in changed)
        return refused or come

    def _warn_of(self, name: str, found: Reading) -> None:
        for row in found.left_out:
            self._warn(name, f"left out of its offers, {row.what} for one: {row.reason}", f"left out: {row.reason}")
        unknown = {offer.zone for offer in found.offers if offer.available and place_of(offer.kind, offer.zone) is None}
        if new := sorted(zone for zone in unknown if (name, zone) not in self._warned):
            self._warned |= {(name, zone) for zone in new[:_WARNINGS]}
            more = f" and {len(new) - 5} more" if len(new) > 5 else ""
            log.warning(
                "provider=%s zones in no list of ours, their place and grid are not known: %s%s",
                name,
                ", ".join(repr(zone) for zone in new[:5]),
                more,
            )

    def _warn(self, provider: str, what: str, once: str | None = None) -> None:
        """Once for each `once`: what is odd in a list is odd in each reading of it."""
        key = (provider, once or what)
        if key not in self._warned and len(self._warned) < _WARNINGS:
            self._warned.add(key)
            log.warning("provider=%s %s", provider, what)


def _less_refused(db: Connection, seen: dict[str, Offer]) -> dict[str, Offer]:
    """A purchase refused while the list was on its way is newer than the list."""
    if not seen:
        return seen
    since = max(offer.observed_at for offer in seen.values())
    refused = {one.offer_id for one in observations.outcomes(db, since) if one.source is Source.CREATE_REFUSED}
    return {
        offer_id: replace(offer, available=False) if offer_id in refused else offer for offer_id, offer in seen.items()
    }


def _worth_writing(last: Look | None, taken: Look, was_doubted: bool) -> bool:
    return (
        last is None
        or was_doubted
        or taken.changes > 0
        or taken.left_out != last.left_out
        or taken.at - last.at >= _STILL_SO
    )
