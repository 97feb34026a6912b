from datetime import timedelta
from decimal import Decimal

import pytest
from factories import NOON, Clock, a_shape, an_offer

from broker.core.demand import Limits
from broker.core.errors import BrokerError
from broker.core.observations import Look
from broker.db import blocks, observations, offers
from broker.services.forecast import Forecast
from broker.services.market import Market, Order, Question

OFFERS = [
    an_offer(zone="us-east-1", instance_type="gpu_1x_h100_sxm5"),
    an_offer(zone="us-south-2", instance_type="gpu_1x_h100_pcie", price_per_hour=Decimal("3.29")),
    an_offer(zone="us-west-1", instance_type="gpu_1x_h100_sxm5", available=False),
    an_offer(provider="vast-a", kind="vast", zone="us-texas", instance_type="m7x1", accelerator="A100",
             accelerator_memory_gib=40, price_per_hour=Decimal(1), machine="m7"),
    an_offer(provider="vast-a", kind="vast", zone="de", instance_type="m8x1", accelerator="A100",
             accelerator_memory_gib=80, price_per_hour=Decimal(2), machine="m8", observed_at=NOON - timedelta(hours=1)),
]  # fmt: skip


@pytest.fixture
def market(engine):
    with engine.begin() as db:
        for provider in ("lambda-a", "vast-a"):
            offers.replace_all(db, provider, [offer for offer in OFFERS if offer.provider == provider])
    return Market(
        engine=engine,
        clock=Clock(),
        shapes={"h100": a_shape()},
        providers=frozenset({"lambda-a", "vast-a"}),
        trusted=frozenset({"lambda-a"}),
        limits=Limits(),
        cpu_arch="x86_64",
        image="",
        forecast=Forecast(),
    )


def zones(market, **question):
    return [line.offer.zone for line in market.look(Question(**question)).lines]


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ({}, ["us-texas", "de", "us-south-2", "us-east-1", "us-west-1"]),
        ({"available": True}, ["us-texas", "de", "us-south-2", "us-east-1"]),
        ({"gpu": "NVIDIA H100"}, ["us-south-2", "us-east-1", "us-west-1"]),
        ({"gpu": "H100 PCIe"}, ["us-south-2"]),
        ({"gpu": "A100 80GB"}, ["de"]),
        ({"provider": "vast"}, ["us-texas", "de"]),
        ({"provider": "lambda-a", "available": True}, ["us-south-2", "us-east-1"]),
        ({"zone": "us-tex-erco"}, ["us-texas", "us-south-2"]),
        ({"zone": "DE"}, ["de"]),
        ({"max_price": Decimal("3.29")}, ["us-texas", "de", "us-south-2"]),
        ({"order": Order.AGE, "available": True}, ["us-south-2", "us-east-1", "us-texas", "de"]),
    ],
)
def test_offers_are_found_by_what_they_are_and_where(market, question, found):
    assert zones(market, **question) == found


def test_for_a_shape_the_offers_come_as_the_daemon_would_buy_them_and_the_rest_with_its_reason(market):
    lines = market.look(Question(shape="h100")).lines
    assert [(line.offer.zone, line.unfit) for line in lines] == [
        ("us-south-2", None),
        ("us-east-1", None),
        ("us-texas", "not H100"),
        ("de", "not H100"),
        ("us-west-1", "sold out"),
    ]


def test_a_paused_credential_is_no_offer_for_a_shape(market, engine):
    with engine.begin() as db:
        blocks.pause(db, "lambda-a", "the bill is checked", "root", NOON)
    assert {line.unfit for line in market.look(Question(shape="h100", provider="lambda")).lines} == {
        "sold out",
        "lambda-a is paused by root: the bill is checked",
    }


def test_what_is_known_of_an_offer_stands_beside_it(market):
    texas = next(line for line in market.look(Question(gpu="A100")).lines if line.offer.zone == "us-texas")
    assert (texas.gpu.memory_gb, texas.location.grid_zone, texas.energy.confidence) == (40, "US-TEX-ERCO", "low")
    assert 0 < texas.chance.p <= 1
    assert texas.boot is None


def test_the_newest_reading_is_told_also_when_it_is_not_believed(market, engine):
    look = {"provider": "lambda-a", "polls": 1, "rows": 0, "changes": 0, "left_out": {}}
    with engine.begin() as db:
        observations.append_look(db, Look(**look, at=NOON, believed=True, note=None))
        observations.append_look(db, Look(**look, at=NOON, believed=False, note="half is gone"))
    (told,) = market.look(Question()).looks
    assert (told.believed, told.note) == (False, "half is gone")


@pytest.mark.parametrize("question", [Question(gpu="H1000"), Question(shape="nosuch")])
def test_what_nobody_knows_is_refused_with_what_is_known(market, question):
    with pytest.raises(BrokerError, match=r"H100|h100"):
        market.look(question)
