from datetime import timedelta
from decimal import Decimal

import pytest
from factories import NOON, an_offer

from broker.core.errors import NoCapacity, RateLimited
from broker.core.offers import LeftOut, Reading
from broker.db import observations, offers
from broker.db.engine import reading
from broker.providers.fake import FakeProvider
from broker.reconcile import allot, launch
from broker.reconcile.refresh_offers import Refresh


class Market:
    """A credential whose list the test writes."""

    def __init__(self, rig):
        self.rig = rig
        self.listed = []
        self.left_out = ()
        self.complete = True
        provider = FakeProvider("lambda-a", list)
        provider.offers = self._offers
        rig.sell()  # nothing is known yet
        rig.providers.clear()
        rig.providers["lambda-a"] = provider
        self.provider = provider
        self.refresh = Refresh(rig.world)

    def _offers(self):
        now = self.rig.clock()
        seen = tuple(an_offer(**{"observed_at": now, **changes}) for changes in self.listed)
        return Reading(offers=seen, left_out=self.left_out, complete=self.complete)

    def read(self, *listed, seconds=30):
        self.rig.clock.pass_seconds(seconds)
        self.listed = list(listed)
        self.refresh.read(self.provider)

    def known(self):
        with reading(self.rig.world.engine) as db:
            return {offer.id: offer for offer in offers.current(db)}

    def available(self):
        return sorted(offer.zone for offer in self.known().values() if offer.available)

    def history(self):
        with reading(self.rig.world.engine) as db:
            return [
                (one.sku.zone, one.price_per_hour, one.available, str(one.source))
                for one in observations.history(db, NOON - timedelta(days=1))
            ]

    def look(self, believed=False):
        with reading(self.rig.world.engine) as db:
            return observations.last_look(db, "lambda-a", believed=believed)


@pytest.fixture
def market(rig):
    return Market(rig)


def test_only_what_changed_is_written_down(market):
    east, west = {"zone": "east"}, {"zone": "west", "price_per_hour": Decimal(5)}
    market.read(east, west)
    market.read(east, west)
    market.read(east, west | {"price_per_hour": Decimal(6)})
    market.read(west | {"price_per_hour": Decimal(6)})
    assert market.history() == [
        ("east", Decimal("4.29"), True, "listing"),
        ("west", Decimal(5), True, "listing"),
        ("west", Decimal(6), True, "listing"),
        ("east", Decimal("4.29"), False, "listing"),
    ]
    assert market.available() == ["west"]


def test_that_nothing_changed_is_written_down_every_five_minutes(market):
    for _ in range(31):
        market.read({"zone": "east"}, seconds=20)
    with reading(market.rig.world.engine) as db:
        looks = observations.looks(db, "lambda-a", NOON)
    assert [at - NOON for at, _ in looks] == [timedelta(seconds=20), timedelta(seconds=320), timedelta(seconds=620)]
    assert [polls for _, polls in looks] == [1, 15, 15]


def test_an_empty_list_is_doubted_until_it_lasts(market):
    full = [{"instance_type": f"type-{number}", "zone": f"zone-{number}"} for number in range(4)]
    market.read(*full)
    market.read()
    assert len(market.available()) == 4
    assert not market.look().believed
    assert "it names 0 of the 4 machines" in market.look().note
    market.read()
    assert len(market.available()) == 4
    market.read(seconds=120)
    assert market.available() == []
    assert market.look().believed


def test_a_list_that_is_whole_again_ends_the_doubt(market):
    full = [{"instance_type": f"type-{number}", "zone": f"zone-{number}"} for number in range(4)]
    for listed in (full, full[:1], full, full[:1], full[:1]):
        market.read(*listed, seconds=70)
    assert len(market.available()) == 4


def test_a_sell_out_is_no_reason_to_doubt(market):
    market.read({"zone": "east"}, {"zone": "west"}, {"zone": "north"})
    market.read({"zone": "-", "available": False})
    assert market.available() == []


def test_what_an_incomplete_list_does_not_show_stays(market):
    market.read({"zone": "east"}, {"zone": "west"})
    market.complete = False
    market.read({"zone": "west", "price_per_hour": Decimal(9)})
    assert market.available() == ["east", "west"]
    assert [price for zone, price, *_ in market.history() if zone == "west"] == [Decimal("4.29"), Decimal(9)]
    market.read({"zone": "west"}, seconds=1800)
    assert market.available() == ["west"]


def test_rows_left_out_are_counted_by_reason_and_told_once(market, caplog):
    market.left_out = (LeftOut(what="a", reason="price 0"), LeftOut(what="b", reason="price 0"))
    market.read({"zone": "east"})
    market.read({"zone": "east"})
    assert market.look().left_out == {"price 0": 2}
    assert [message for message in caplog.messages if "price 0" in message] == [
        "provider=lambda-a left out of its offers, a for one: price 0"
    ]


def test_a_zone_in_no_list_is_sold_and_told_once(market, caplog):
    for _ in range(3):
        market.read({"zone": "us-moon-1"})
    assert market.available() == ["us-moon-1"]
    assert len([message for message in caplog.messages if "us-moon-1" in message]) == 1


def test_what_is_known_is_what_was_read_last_with_the_time_of_that(market):
    east, west = {"zone": "east"}, {"zone": "west"}
    for listed in ((east, west), (east, west), (west | {"price_per_hour": Decimal(5)},), (east,), (east, west)):
        market.read(*listed, seconds=60)
        (seen,) = {offer.observed_at for offer in market.known().values()}
        assert seen == market.rig.clock()
        assert sorted((o.zone, o.price_per_hour) for o in market.known().values()) == sorted(
            (each["zone"], each.get("price_per_hour", Decimal("4.29"))) for each in listed
        )


def test_purchases_are_observations_and_change_the_odds(rig):
    rig.sell(an_offer(zone="us-east-1"), an_offer(zone="us-west-1", price_per_hour=Decimal("4.30")))
    rig.providers["lambda-a"].fail_create = [NoCapacity("sold out")]
    rig.ask()
    rig.step(allot, launch)
    rig.step(allot, launch)
    with reading(rig.world.engine) as db:
        told = [(one.sku.zone, one.available, str(one.source)) for one in observations.outcomes(db, NOON)]
    assert told == [("us-east-1", False, "create_refused"), ("us-west-1", True, "create_accepted")]
    chance = rig.world.forecast.chance(an_offer(zone="us-east-1"), rig.clock())
    assert chance.p < rig.world.forecast.chance(an_offer(zone="us-west-1"), rig.clock()).p
    assert "1 of 1 purchases refused" in chance.reason()


def test_a_refusal_is_newer_than_a_list_that_was_on_its_way(market):
    market.read({"zone": "east"})
    market.rig.providers["lambda-a"].fail_create = [NoCapacity("sold out")]
    market.rig.ask()
    before = market.rig.clock()
    market.rig.step(allot)
    market.rig.step(launch)
    market.read({"zone": "east", "observed_at": before}, seconds=0)
    assert market.available() == []
    market.read({"zone": "east"})
    assert market.available() == ["east"]


def due(market, seconds):
    market.rig.clock.pass_seconds(seconds)
    return [task.key for task in market.refresh.find()]


def test_a_credential_is_read_seldom_while_nobody_waits_and_often_while_what_is_wanted_flickers(market):
    market.read({"zone": "east", "instance_type": "gpu_1x_h100_sxm5"})  # half of these are gone in six minutes
    assert due(market, 60) == []
    assert due(market, 61) == ["offers:lambda-a"]
    market.read({"zone": "east", "instance_type": "gpu_1x_h100_sxm5"})
    market.rig.ask()
    assert due(market, 10) == []
    assert due(market, 5) == ["offers:lambda-a"]
    market.read({"zone": "east", "instance_type": "steady"})
    assert due(market, 15) == []
    assert due(market, 15) == ["offers:lambda-a"]


def test_a_job_that_comes_back_later_still_counts_as_waiting(market):
    market.read({"zone": "-", "available": False})
    market.rig.ask()
    market.rig.step(allot)
    assert market.rig.states() == ["released"]
    assert due(market, 15) == ["offers:lambda-a"]


def test_a_provider_that_said_too_many_calls_is_left_alone_so_long(market):
    def refuse():
        raise RateLimited("slow down", retry_after=300)

    market.read({"zone": "east"})
    market.provider.offers = refuse
    with pytest.raises(RateLimited):
        market.refresh.read(market.provider)
    assert due(market, 299) == []
    assert due(market, 1) == ["offers:lambda-a"]
