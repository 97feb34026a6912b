"""The offline optimum: below every policy, equal to enumeration where capacity does not bind."""

from dataclasses import replace
from itertools import product

import pytest
from unit.simulate.conftest import FOUR_ZONES, PAI_1K
from unit.simulate.worlds import a_site, a_trace, an_offer, signals

from broker.core.demand import Mode
from broker.placement.objective import aims
from broker.simulate.bound import bound, separable, sure, value
from broker.simulate.deciders import Broker, CheapestNow
from broker.simulate.intensity import read_zones
from broker.simulate.read_jobs import read_jobs
from broker.simulate.signals import Signals, perfect, profile
from broker.simulate.site_world import Terms, replay, works

pytest.importorskip("scipy", reason="the offline optimum needs the extra `sim`")
# Any offer, whatever it costs: with sell-outs a policy may be driven above its premium set, and a bound may not.
ANY = replace(aims(Mode.BALANCED, 1.0), premium=float("inf"))


def prices_in_four_zones(devices):
    prices = {"DE": 1.99, "US-CAL-CISO": 2.08, "AU-SA": 2.15, "NO-NO1": 2.4}
    return a_site(
        *(
            an_offer(zone, zone=zone, usd=usd, devices=devices, pue=1.3, boot_p50_h=4 / 60)
            for zone, usd in prices.items()
        )
    )


@pytest.fixture(scope="module")
def week():
    return read_jobs(PAI_1K), Signals(read_zones([FOUR_ZONES], ["AU-SA", "DE", "US-CAL-CISO", "NO-NO1"]), 24 * 10)


def test_a_tiny_case_is_what_trying_everything_gives():
    site = a_site(an_offer("a", usd=1.0, devices=1))
    known = signals(A=[900, 100, 500, 200, *[900] * 40])
    trace, terms = a_trace((0, 1, 1), (0, 1, 1), (0, 1, 1)), Terms(wait_hours=(3, 3))
    wanted = replace(ANY, time_value=0.0)
    listed = works(trace, site, known, terms)

    whole = bound(listed, site, known, wanted, integral=True, gap=0.0)

    grams = (900, 100, 500, 200)
    best = min(
        sum(1.0 + grams[start] / 1000 for start in chosen)
        for chosen in product(range(4), repeat=3)
        if len(set(chosen)) == 3
    )
    assert whole.usd == pytest.approx(best)


@pytest.mark.parametrize("time_value", [0.05, 0.0])
@pytest.mark.parametrize("forecast", ["perfect", "own"])
def test_the_brokers_regret_at_one_dollar_a_kilogram_is_within_the_bars(week, time_value, forecast):
    trace, known = week
    wanted = replace(aims(Mode.BALANCED, 1.0), time_value=time_value)
    terms = Terms(wait_hours=(6, 24))
    for devices in (1000.0, 24.0):
        site = prices_in_four_zones(devices)
        listed = works(trace, site, known, terms)
        decider = Broker(wanted, perfect(known) if forecast == "perfect" else profile)
        outcome = replay(trace, site, known, decider, "broker", terms)

        least = bound(listed, site, known, replace(wanted, premium=float("inf")))

        regret = value(outcome, listed, site, wanted) / least.usd - 1
        assert 0 <= regret <= (0.05 if forecast == "perfect" else 0.12)


def test_without_shared_capacity_the_bound_is_the_enumeration_and_the_perfect_broker_meets_it(week):
    trace, known = week
    site, terms = prices_in_four_zones(1000.0), Terms(wait_hours=(6, 24))
    wanted = replace(aims(Mode.BALANCED, 1.0), tie_share=0.0, hysteresis=0.0, theta=0.0)
    listed = works(trace, site, known, terms)

    least, each = bound(listed, site, known, wanted), separable(listed, site, known, wanted)
    broker = value(replay(trace, site, known, Broker(wanted, perfect(known)), "b", terms), listed, site, wanted)

    assert least.usd == pytest.approx(each.usd, rel=1e-9)
    assert broker == pytest.approx(each.usd, rel=1e-9)


def test_fractions_are_below_whole_jobs_and_those_below_every_policy(week):
    trace, known = week
    trace = replace(trace, jobs=trace.jobs[:120])
    site, terms = prices_in_four_zones(6.0), Terms(wait_hours=(6, 24))
    listed = works(trace, site, known, terms)

    relaxed = bound(listed, site, known, ANY)
    whole = bound(listed, site, known, ANY, integral=True, gap=1e-3)

    assert separable(listed, site, known, ANY).usd <= relaxed.usd + 1e-6
    assert relaxed.usd <= whole.usd + 1e-6
    for decider in (CheapestNow(), Broker(ANY, profile), Broker(ANY, perfect(known))):
        assert whole.usd <= value(replay(trace, site, known, decider, "x", terms), listed, site, ANY) * (1 + 1e-3)


def test_a_sure_site_has_neither_slow_nor_failing_boots():
    site = sure(a_site(an_offer(boot_p50_h=0.1, boot_p90_h=0.4, fails=0.3)))

    assert (site.offers[0].boot_p90_h, site.offers[0].fails) == (0.1, 0.0)
