import math
import random
from datetime import timedelta
from decimal import Decimal

import pytest
from factories import NOON, a_shape, an_offer

from broker.core.demand import Limits, Request, Wishes
from broker.core.observations import Seen, Sku, Source
from broker.placement.chances import Model, fit
from broker.placement.planner import plan, score
from broker.placement.shipped_rates import SHIPPED, rates

HOUR = 3600.0


def sku(zone="us-east-1", instance_type="gpu_1x_h100_sxm5"):
    return Sku(provider="lambda-a", instance_type=instance_type, zone=zone, capacity_type="on_demand")


def seen(at, available, source=Source.LISTING, of=None):
    of = of or sku()
    return Seen(offer_id=str(of), sku=of, at=at, price_per_hour=Decimal(4), available=available, source=source)


def watched(half_life_s, hours, pace_s=30.0, of=None):
    """History of a sku that comes and goes with this half-life, looked at every `pace_s`; and the looks."""
    dice = random.Random(7)
    flip = 1 - 0.5 ** (pace_s / half_life_s)
    open_, history, looks = True, [], []
    for number in range(int(hours * HOUR / pace_s)):
        at = NOON + timedelta(seconds=number * pace_s)
        looks.append((at, 1))
        changed = dice.random() < flip
        if number == 0 or changed:
            open_ = open_ if number == 0 else not open_
            history.append(seen(at, open_, of=of))
    return history, {"lambda-a": looks}, looks[-1][0]


@pytest.mark.parametrize("half_life_s", [120, 900, 2 * HOUR])
def test_the_half_life_of_what_comes_and_goes_is_learned(half_life_s):
    history, looks, now = watched(half_life_s, hours=200 * half_life_s / HOUR)
    model = fit(history, looks, now, memory=None)
    chance = model.chance(an_offer(observed_at=now), now)
    assert chance.half_life_s == pytest.approx(half_life_s, rel=0.3)


def test_what_never_changes_is_steady_however_old_the_report():
    history, looks, now = watched(10**9, hours=72)
    offer = an_offer(observed_at=now)
    model = fit(history, looks, now, memory=None)
    assert model.p(offer, now + timedelta(minutes=30)) > 0.9


def test_a_report_fades_to_the_share_of_time_that_the_offer_can_be_had():
    some = rates(half_life_s=600, return_s=1800)
    ages = [some.open_after(age, True) for age in (0, 60, 600, 3600, 10**6)]
    assert ages == sorted(ages, reverse=True)
    assert ages[0] == 1
    assert ages[-1] == pytest.approx(0.25)
    assert some.open_after(10**6, False) == pytest.approx(0.25)
    assert some.open_after(0, False) == 0


def test_a_fresh_report_is_as_good_as_certain_before_anything_is_learned():
    assert Model().p(an_offer(), NOON + timedelta(seconds=30)) > 0.9
    assert Model().p(an_offer(instance_type="never heard of"), NOON + timedelta(seconds=30)) > 0.97


def test_a_zone_without_history_is_taken_for_like_the_other_zones_of_its_type():
    history, looks, now = watched(300, hours=24, of=sku("us-west-1", "exotic"))
    model = fit(history, looks, now, memory=None)
    elsewhere = an_offer(zone="us-east-1", instance_type="exotic", observed_at=now)
    assert model.chance(elsewhere, now).half_life_s == pytest.approx(300, rel=0.4)


def test_time_in_which_nobody_looked_teaches_nothing():
    """The daemon was away for ten hours: what it saw before was not still so in all of them."""
    gone = timedelta(hours=10)
    looks = [(NOON + timedelta(seconds=30 * n), 1) for n in range(20)]
    looks += [(NOON + gone + timedelta(seconds=30 * n), 1) for n in range(20)]
    history = [seen(NOON, True), seen(NOON + gone + timedelta(seconds=30), False)]
    model = fit(history, {"lambda-a": looks}, looks[-1][0], memory=None)
    assert model.chance(an_offer(observed_at=NOON), NOON).half_life_s < HOUR


def test_refused_purchases_lower_the_chance_and_accepted_ones_raise_it_again():
    offer = an_offer()

    def after(*outcomes):
        history = [seen(NOON, good, Source.CREATE_ACCEPTED if good else Source.CREATE_REFUSED) for good in outcomes]
        return fit(history, {}, NOON).p(offer, NOON)

    assert after(False, False) < after(False) < after(False, True) < after() <= after(True)


def test_the_reason_speaks_of_age_half_life_and_refusals():
    history = [seen(NOON, False, Source.CREATE_REFUSED), seen(NOON, True, Source.CREATE_ACCEPTED)]
    chance = fit(history, {}, NOON).chance(an_offer(), NOON + timedelta(minutes=4))
    minutes = math.log(2) / SHIPPED["gpu_1x_h100_sxm5"].leave / 60
    assert chance.reason() == f"seen 4 min ago, half-life {minutes:.0f} min, 1 of 2 purchases refused"
    assert Model().chance(an_offer(available=False), NOON).reason() == "sold out 0 s ago"
    assert Model().chance(an_offer(instance_type="new"), NOON).reason() == "seen 0 s ago, half-life not learned yet"


def order(offers, chance):
    made = plan(
        Request(shape=a_shape(), wishes=Wishes()), offers, Limits(), frozenset({"lambda-a", "lambda-b"}), chance=chance
    )
    return [offer.zone for offer in made.offers]


def test_the_cheapest_is_tried_first_while_all_are_freshly_seen():
    offers = [
        an_offer(zone=zone, price_per_hour=Decimal(price)) for zone, price in (("dear", "4.30"), ("cheap", "4.20"))
    ]
    model = Model()
    assert order(offers, lambda offer: model.p(offer, NOON + timedelta(seconds=20))) == ["cheap", "dear"]


def test_an_offer_that_hardly_can_be_had_waits_behind_one_that_costs_a_little_more():
    offers = [
        an_offer(zone=zone, price_per_hour=Decimal(price)) for zone, price in (("sure", "4.30"), ("rare", "4.20"))
    ]
    assert order(offers, lambda offer: 0.1 if offer.zone == "rare" else 0.99) == ["sure", "rare"]
    assert order(offers, lambda offer: 0.7 if offer.zone == "rare" else 0.99) == ["rare", "sure"]


def test_a_much_cheaper_offer_is_worth_a_try_even_if_it_is_rare():
    offers = [
        an_offer(zone=zone, price_per_hour=Decimal(price)) for zone, price in (("sure", "4.30"), ("rare", "2.00"))
    ]
    assert order(offers, lambda offer: 0.1 if offer.zone == "rare" else 0.99) == ["rare", "sure"]


def test_the_score_is_the_price_and_a_minute_of_it_for_each_purchase_that_fails_before_one_succeeds():
    assert score(an_offer(price_per_hour=Decimal(6)), 1.0) == 6
    assert score(an_offer(price_per_hour=Decimal(6)), 0.5) == pytest.approx(6 + 6 / 60)
    assert score(an_offer(price_per_hour=Decimal(6)), 0.2) == pytest.approx(6 + 4 * 6 / 60)
