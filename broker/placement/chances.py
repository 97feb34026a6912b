"""P(success now): how likely a purchase of an offer is to be answered with a machine. Pure.

A report of capacity ages: each sku is a machine shop that opens and shuts by chance, `leave` times a second while open and
`back` times while shut. Seen open `age` seconds ago, it is open now with

    open + (1 - open) * exp(-(leave + back) * age),    open = back / (leave + back)

and a purchase from an open shop is accepted with a chance that is learned from purchases. Both are learned for each zone
of an instance type, and lean on what is known of the type, and of the credential, while there is little to learn from.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from broker.core.observations import Seen, Sku, Source
from broker.core.offers import Offer
from broker.placement.shipped_rates import DEFAULT, SHIPPED, Rates

# Newer history tells more: the half-lives themselves were seen to move within hours. Shorter forgets what is rare.
_MEMORY = timedelta(hours=24)
# How many changes of its own a zone must have shown to count as much as what is known of its instance type. Cross-validated:
# from 0.2 to 1 it matters little; below, a lucky hour is believed; above, two hours of a scarce type teach nothing.
_LEAN_CHANGES = 0.5
# Purchases before any was made: a listed offer is had nine times in ten; more trust is earned, less too.
_LEAN_PURCHASES = 10.0
_ACCEPTED = 0.98
_LEAN_ON_CREDENTIAL = 4.0
_LEAST, _MOST = 0.01, 0.999
# An age that rounds to this shows as "long": nobody need read of a half-life of years.
_STEADY_S = 7 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Chance:
    """`p` and what it rests on. `age_s`: of the last report; `known`: something is known of how long such reports hold;
    `tried`, `refused`: purchases, weighted by their age."""

    p: float
    listed: bool
    age_s: float
    half_life_s: float
    known: bool
    tried: float
    refused: float

    def reason(self) -> str:
        """`seen 4 min ago, half-life 3 min`, for people."""
        seen = f"{'seen' if self.listed else 'sold out'} {_span(self.age_s)} ago"
        life = "steady" if self.half_life_s > _STEADY_S else f"half-life {_span(self.half_life_s)}"
        if not self.known:
            life = "half-life not learned yet"
        said = f"{seen}, {life}" if self.listed else seen
        if round(self.refused):
            said += f", {round(self.refused)} of {max(round(self.tried), round(self.refused))} purchases refused"
        return said


@dataclass
class Tally:
    """What was seen of a sku, newer sights weighing more: seconds and looks while open and while shut, and changes."""

    open_s: float = 0.0
    open_looks: float = 0.0
    lost: float = 0.0
    shut_s: float = 0.0
    shut_looks: float = 0.0
    returned: float = 0.0

    def add(self, other: "Tally") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Purchases:
    """Purchases, newer ones weighing more."""

    tried: float = 0.0
    refused: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Model:
    """What was learned until `fitted_at`; `purchases` may be told of more."""

    rates: Mapping[Sku, Rates] = field(default_factory=dict)
    type_rates: Mapping[tuple[str, str], Rates] = field(default_factory=dict)
    purchases: "Mapping[tuple[str, ...], Purchases]" = field(default_factory=dict)

    def chance(self, offer: Offer, now: datetime) -> Chance:
        """Of a purchase of `offer` at `now`."""
        rates = self._rates(offer)
        age = max(0.0, (now - offer.observed_at).total_seconds())
        accepted, own = self._accepted(offer)
        return Chance(
            p=min(_MOST, max(_LEAST, rates.open_after(age, offer.available) * accepted)),
            listed=offer.available,
            age_s=age,
            half_life_s=math.log(2) / rates.leave,
            known=rates is not DEFAULT,
            tried=own.tried,
            refused=own.refused,
        )

    def p(self, offer: Offer, now: datetime) -> float:
        """`chance(...).p`, for ranking many."""
        rates = self._rates(offer)
        age = max(0.0, (now - offer.observed_at).total_seconds())
        return min(_MOST, max(_LEAST, rates.open_after(age, offer.available) * self._accepted(offer)[0]))

    def _rates(self, offer: Offer) -> Rates:
        return (
            self.rates.get(sku_of(offer))
            or self.type_rates.get((offer.provider, offer.instance_type))
            or SHIPPED.get(offer.instance_type, DEFAULT)
        )

    def _accepted(self, offer: Offer) -> tuple[float, Purchases]:
        credential = self.purchases.get((offer.provider,), _NONE)
        share = _share(credential, _ACCEPTED, _LEAN_PURCHASES)
        own = self.purchases.get((offer.provider, offer.instance_type, offer.zone), _NONE)
        return _share(own, share, _LEAN_ON_CREDENTIAL), own


_NONE = Purchases()


def sku_of(offer: Offer) -> Sku:
    return Sku(
        provider=offer.provider,
        instance_type=offer.instance_type,
        zone=offer.zone,
        capacity_type=offer.capacity_type,
    )


def fit(
    history: Iterable[Seen],
    looks: Mapping[str, Sequence[tuple[datetime, int]]],
    now: datetime,
    memory: timedelta | None = _MEMORY,
) -> Model:
    """Learn from `history` (changes of many series, oldest first) and from when each credential's offers were `looks`ed at.

    `memory`: the half-life of what is learned; None: everything weighs the same.
    """
    seen = list(history)
    return model_of(tallies(seen, looks, now, memory), count_purchases(seen, now))


def model_of(
    zones: Mapping[Sku, Tally],
    purchases: Mapping[tuple[str, ...], Purchases],
    shipped: Mapping[str, Rates] = SHIPPED,
) -> Model:
    """A zone's rates lean on its instance type's, those on what is `shipped` or on the credential's."""
    types: dict[tuple[str, str], Tally] = defaultdict(Tally)
    credentials: dict[str, Tally] = defaultdict(Tally)
    for sku, tally in zones.items():
        types[sku.provider, sku.instance_type].add(tally)
        credentials[sku.provider].add(tally)
    of_credential = {name: rates_of(tally, DEFAULT) for name, tally in credentials.items()}
    of_type = {key: rates_of(tally, shipped.get(key[1], of_credential[key[0]])) for key, tally in types.items()}
    return Model(
        rates={sku: rates_of(tally, of_type[sku.provider, sku.instance_type]) for sku, tally in zones.items()},
        type_rates=of_type,
        purchases=purchases,
    )


def count_purchases(seen: Iterable[Seen], now: datetime) -> dict[tuple[str, ...], Purchases]:
    """Of each credential and of each of its skus, newer ones weighing more."""
    counted: dict[tuple[str, ...], Purchases] = defaultdict(Purchases)
    for one in seen:
        if one.source not in {Source.CREATE_ACCEPTED, Source.CREATE_REFUSED}:
            continue
        weight = 0.5 ** (max(0.0, (now - one.at).total_seconds()) / _MEMORY.total_seconds())
        sku = one.sku
        for key in ((sku.provider,), (sku.provider, sku.instance_type, sku.zone)):
            counted[key].tried += weight
            counted[key].refused += weight * (one.source is Source.CREATE_REFUSED)
    return dict(counted)


def rates_of(tally: Tally, prior: Rates) -> Rates:
    """How fast it shuts and opens, leaning on `prior` as on `_LEAN_CHANGES` changes."""
    return Rates(
        leave=_rate(tally.lost, tally.open_looks, tally.open_s, prior.leave),
        back=_rate(tally.returned, tally.shut_looks, tally.shut_s, prior.back),
    )


def _rate(changes: float, looks: float, seconds: float, prior: float) -> float:
    if changes > 0 and looks > 0:
        # Between two looks a shop may shut, open and shut: that `changes` of `looks` ended shut means a higher rate.
        share = min(0.95, changes / looks)
        seconds = changes * (seconds / looks) / -math.log(1 - share)
    return (changes + _LEAN_CHANGES) / (seconds + _LEAN_CHANGES / prior)


def _share(purchases: Purchases, prior: float, lean: float) -> float:
    return (purchases.tried - purchases.refused + lean * prior) / (purchases.tried + lean)


def tallies(
    seen: Iterable[Seen],
    looks: Mapping[str, Sequence[tuple[datetime, int]]],
    now: datetime,
    memory: timedelta | None = _MEMORY,
) -> dict[Sku, Tally]:
    """What `fit` learns rates from."""
    watched = {name: _Looks(at, now, memory) for name, at in looks.items()}
    found: dict[Sku, Tally] = defaultdict(Tally)
    last: dict[str, Seen] = {}

    def lived(was: Seen, until: datetime, changed: bool) -> None:
        look = watched.get(was.sku.provider)
        if look is None:
            return
        seconds, number = look.between(was.at, until)
        end = _weight(until, now, memory) if changed else 0.0
        # A state that was seen was seen once at least.
        number = max(number, end)
        tally = found[was.sku]
        if was.available:
            tally.add(Tally(open_s=max(seconds, look.pace_s * end), open_looks=number, lost=end))
        else:
            tally.add(Tally(shut_s=max(seconds, look.pace_s * end), shut_looks=number, returned=end))

    for one in seen:
        if one.source is not Source.LISTING:
            continue
        was = last.get(one.offer_id)
        if was is not None and was.available == one.available:
            continue  # only its price changed
        if was is not None:
            lived(was, one.at, changed=True)
        last[one.offer_id] = one
    for was in last.values():
        lived(was, now, changed=False)
    return dict(found)


class _Looks:
    """When a credential's offers were looked at: how many looks, and seconds that were looked at, lie between two times.

    Both are weighted by their age at `now`. A gap far longer than the usual pace (the daemon was away) does not count as
    looked at.
    """

    def __init__(self, looks: Sequence[tuple[datetime, int]], now: datetime, memory: timedelta | None) -> None:
        spans = [
            (before.timestamp(), (after - before).total_seconds(), number, _weight(before, now, memory))
            for (before, _), (after, number) in pairwise(looks)
            if timedelta() < after - before <= _AWAY
        ]
        seconds, number = sum(length for _, length, *_ in spans), sum(number for *_, number, _ in spans)
        self.pace_s = seconds / number if number and seconds else 30.0
        self._spans = spans
        self._starts = [start for start, *_ in spans]
        self._until = [(0.0, 0.0)]
        """What lies before each span."""
        for _, length, count, weight in spans:
            before_s, before_n = self._until[-1]
            self._until.append((before_s + length * weight, before_n + count * weight))

    def between(self, low: datetime, high: datetime) -> tuple[float, float]:
        """(seconds, looks)."""
        (low_s, low_n), (high_s, high_n) = self._before(low), self._before(high)
        return high_s - low_s, high_n - low_n

    def _before(self, at: datetime) -> tuple[float, float]:
        moment = at.timestamp()
        place = bisect_right(self._starts, moment) - 1
        if place < 0:
            return 0.0, 0.0
        start, length, count, weight = self._spans[place]
        part = min(1.0, (moment - start) / length)
        before_s, before_n = self._until[place]
        return before_s + part * length * weight, before_n + part * count * weight


_AWAY = timedelta(minutes=15)


def _weight(at: datetime, now: datetime, memory: timedelta | None) -> float:
    if memory is None:
        return 1.0
    return float(0.5 ** ((now - at).total_seconds() / memory.total_seconds()))


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
