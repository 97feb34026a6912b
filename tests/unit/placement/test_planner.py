import random
from decimal import Decimal

import pytest
from factories import a_shape, an_offer
from hypothesis import given
from hypothesis import strategies as st

from broker.core.demand import Limits, Request, Wishes
from broker.core.offers import CapacityType
from broker.placement.planner import plan

TRUSTED = frozenset({"lambda-a", "lambda-b"})


def request(**changes):
    values = {"shape": a_shape(), "wishes": Wishes()}
    return Request(**(values | changes))


def test_the_cheapest_offer_that_fits_comes_first():
    dear = an_offer(price_per_hour=Decimal("5"))
    cheap = an_offer(provider="lambda-b", price_per_hour=Decimal("3"))
    assert plan(request(), [dear, cheap], Limits(), TRUSTED).offers == (cheap, dear)


@pytest.mark.parametrize(
    ("offer", "limits", "wishes", "reason"),
    [
        (an_offer(accelerator="A10"), Limits(), Wishes(), "not H100"),
        (an_offer(accelerator_count=2), Limits(), Wishes(), "not 1 GPU(s)"),
        (
            an_offer(cpu_arch="aarch64"),
            Limits(),
            Wishes(),
            "its CPU is not x86_64, which the node bundle was built for",
        ),
        (an_offer(cpus=2), Limits(), Wishes(), "too few CPUs"),
        (an_offer(memory_gib=8), Limits(), Wishes(), "too little memory"),
        (an_offer(disk_gib=8), Limits(), Wishes(), "too little disk"),
        (an_offer(available=False), Limits(), Wishes(), "sold out"),
        (an_offer(), Limits(), Wishes(zones=frozenset({"us-west-1"})), "the job wishes other zones"),
        (an_offer(), Limits(), Wishes(providers=frozenset({"vast"})), "the job wishes other providers"),
        (an_offer(), Limits(), Wishes(spot="only"), "the job wishes spot only"),
        (an_offer(capacity_type=CapacityType.SPOT), Limits(), Wishes(), "spot, and the job did not ask for it"),
        (an_offer(provider="x"), Limits(), Wishes(), 'provider not trusted with the cluster\'s key (trust = "none")'),
        (an_offer(), Limits(max_price_per_gpu_hour=Decimal("4")), Wishes(), "above max_price_per_gpu_hour = 4"),
    ],
)
def test_each_offer_left_out_has_its_reason(offer, limits, wishes, reason):
    made = plan(request(wishes=wishes), [offer], limits, TRUSTED)
    assert made.offers == ()
    assert made.reasons() == [(reason, 1)]


def test_a_wish_for_a_provider_may_name_the_kind_or_the_credential():
    for wish in ("lambda", "lambda-a"):
        assert plan(request(wishes=Wishes(providers=frozenset({wish}))), [an_offer()], Limits(), TRUSTED).offers


def test_an_offer_that_failed_for_this_node_is_not_tried_again():
    offer = an_offer()
    assert plan(request(excluded_offers=frozenset({offer.id})), [offer], Limits(), TRUSTED).offers == ()


@given(st.integers(0, 2**32))
def test_a_plan_ignores_the_order_of_its_input(seed):
    offers = [
        an_offer(provider=p, zone=z, price_per_hour=Decimal(price), available=available)
        for p in ("lambda-a", "lambda-b")
        for z in ("us-east-1", "us-west-1")
        for price, available in (("3", True), ("3", False), ("4", True))
    ]
    shuffled = random.Random(seed).sample(offers, len(offers))
    made, again = (plan(request(), some, Limits(), TRUSTED) for some in (offers, shuffled))
    assert made.offers == again.offers
    assert made.reasons() == again.reasons()
