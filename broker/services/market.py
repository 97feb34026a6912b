"""`broker offers`: what could be bought, how likely, and with which power, from whose grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Engine

from broker.catalog.accelerators import Gpu, Wanted, names, of_model, wanted
from broker.catalog.energy import Energy, energy_of
from broker.catalog.zones import Location, locate
from broker.core.demand import Limits, Request, Shape, Wishes
from broker.core.errors import BrokerError
from broker.core.observations import Look
from broker.core.offers import Offer
from broker.db import blocks, boots, observations, offers
from broker.db.boots import BootTimes
from broker.db.engine import reading
from broker.placement.chances import Chance
from broker.placement.planner import plan, score
from broker.services.forecast import Forecast


class Order(StrEnum):
    """By what offers are listed; each ends with the offer's id."""

    PRICE = "price"
    CHANCE = "chance"
    SCORE = "score"
    AGE = "age"


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which offers are asked for. `zone` also fits a place, a country or a grid zone; `max_price`: of the whole machine."""

    gpu: str | None = None
    provider: str | None = None
    zone: str | None = None
    max_price: Decimal | None = None
    available: bool = False
    shape: str | None = None
    order: Order | None = None


@dataclass(frozen=True, kw_only=True)
class OfferLine:
    """An offer and what we know of it. `score`: what the planner ranks by; `unfit`: why it is not for the shape asked for,
    None: it is, or no shape was asked for."""

    offer: Offer
    chance: Chance
    score: float
    boot: BootTimes | None
    energy: Energy | None
    location: Location
    gpu: Gpu | None
    unfit: str | None


@dataclass(frozen=True, kw_only=True)
class OffersView:
    """`looks`: each credential's newest reading, also one that is not believed."""

    lines: tuple[OfferLine, ...]
    looks: tuple[Look, ...]


class Market:
    """What is for sale. `trusted`, `limits`, `cpu_arch`, `image`: what the planner goes by."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Callable[[], datetime],
        shapes: Mapping[str, Shape],
        providers: frozenset[str],
        trusted: frozenset[str],
        limits: Limits,
        cpu_arch: str,
        image: str,
        forecast: Forecast,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._shapes = shapes
        self._providers = sorted(providers)
        self._trusted = trusted
        self._limits = limits
        self._cpu_arch = cpu_arch
        self._image = image
        self._forecast = forecast

    def look(self, question: Question) -> OffersView:
        """BrokerError: a GPU or a shape nobody knows."""
        gpu = self._gpu(question.gpu)
        shape = self._shape(question.shape)
        now = self._clock()
        with reading(self._engine) as db:
            known = offers.current(db, gpu.name if gpu else None)
            took = boots.times(db)
            looks = [observations.last_look(db, name, believed=False) for name in self._providers]
            standing = blocks.view(db, now, self._image)
        model = self._forecast.model
        asked = [offer for offer in known if _is_asked_for(offer, question, gpu)]
        unfit: dict[str, str] = {}
        if shape is None:
            shown = asked
        else:
            request = Request(shape=shape, wishes=Wishes(), cpu_arch=self._cpu_arch)
            ranked = plan(request, asked, self._limits, self._trusted, standing)
            shown = [*ranked.offers, *(rejection.offer for rejection in ranked.rejections)]
            unfit = {rejection.offer.id: rejection.reason for rejection in ranked.rejections}
        lines = []
        for offer in shown:
            chance = model.chance(offer, now)
            lines.append(
                OfferLine(
                    offer=offer,
                    chance=chance,
                    score=score(offer, chance.p),
                    boot=took.get((offer.provider, offer.instance_type)),
                    energy=energy_of(offer.hardware, offer.instance_type),
                    location=locate(offer.kind, offer.zone),
                    gpu=_gpu_of(offer),
                    unfit=unfit.get(offer.id),
                )
            )
        order = question.order or (Order.PRICE if shape is None else Order.SCORE)
        lines.sort(
            key=lambda line: (line.unfit is not None, not line.offer.available, _rank(line, order), line.offer.id)
        )
        return OffersView(lines=tuple(lines), looks=tuple(look for look in looks if look is not None))

    def _gpu(self, text: str | None) -> Wanted | None:
        if text is None:
            return None
        found = wanted(text)
        if found is None:
            raise BrokerError(f"no GPU model is called {text!r}; known: {', '.join(names())}")
        return found

    def _shape(self, name: str | None) -> Shape | None:
        if name is None:
            return None
        if name not in self._shapes:
            raise BrokerError(f"no shape is called {name!r}; the configuration has {', '.join(sorted(self._shapes))}")
        return self._shapes[name]


def _is_asked_for(offer: Offer, question: Question, gpu: Wanted | None) -> bool:
    if question.available and not offer.available:
        return False
    if question.provider is not None and question.provider not in {offer.provider, offer.kind}:
        return False
    if question.max_price is not None and offer.price_per_hour > question.max_price:
        return False
    if question.zone is not None and not _is_in(offer, question.zone):
        return False
    board = _gpu_of(offer)
    return gpu is None or board is None or gpu.fits(board)


def _is_in(offer: Offer, zone: str) -> bool:
    where = locate(offer.kind, offer.zone)
    names = {offer.zone, where.place, where.country, where.zone}
    return zone.casefold() in {name.casefold() for name in names if name}


def _gpu_of(offer: Offer) -> Gpu | None:
    hardware = offer.hardware
    if hardware.accelerator is None:
        return None
    return of_model(hardware.accelerator, hardware.accelerator_memory_gib, offer.instance_type)


def _rank(line: OfferLine, order: Order) -> float:
    match order:
        case Order.PRICE:
            return float(line.offer.price_per_hour)
        case Order.CHANCE:
            return -line.chance.p
        case Order.SCORE:
            return line.score
        case Order.AGE:
            return line.chance.age_s
