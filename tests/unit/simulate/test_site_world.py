"""World `site`: money, carbon and time of jobs that meet sell-outs, boots and interruptions; nobody sees the future."""

import random
from dataclasses import fields, replace

import pytest
from unit.simulate.conftest import FOUR_ZONES, PAI_1K
from unit.simulate.worlds import a_site, a_trace, an_offer, signals, steps

from broker.core.demand import Mode
from broker.core.offers import CapacityType
from broker.placement.objective import aims, with_wishes
from broker.simulate.bound import sure
from broker.simulate.deciders import Broker, CheapestNow, GreenestNow, starts
from broker.simulate.intensity import read_zones
from broker.simulate.read_jobs import read_jobs
from broker.simulate.signals import Signals, View, perfect, persistence, profile
from broker.simulate.site_file import read_site
from broker.simulate.site_world import Terms, beside, replay, works
from broker.simulate.trace import Unreadable

NO_WAIT = Terms(wait_hours=(0, 0))
FLAT = {"A": [100] * 200}


def run(trace, site, decider=None, known=None, terms=NO_WAIT, **more):
    return replay(trace, site, known or signals(**FLAT), decider or CheapestNow(), "x", terms, **more)


def test_a_job_costs_its_billed_steps_and_emits_over_boot_and_run():
    offer = an_offer(usd=3.0, boot_p50_h=0.25, billing_step_h=1.0, pue=1.5)
    known = signals(A=[100, 400, 400, 400, *[0] * 50])

    outcome = run(a_trace((0.5, 2.0, 2)), a_site(offer, idle_power=0.5), known=known)

    # 2.25 h are three begun hours of two devices; half the power from 0.5 to 0.75 h, all of it until 2.75 h.
    assert outcome.cost_usd == pytest.approx(3 * 3.0 * 2)
    assert outcome.carbon_kg == pytest.approx(1.5 * 2 * (0.5 * 0.25 * 100 + 0.25 * 100 + 1.75 * 400) / 1000)
    assert outcome.mean_wait_h == pytest.approx(0.25)
    assert outcome.device_hours == 4.0


def test_a_sell_out_sends_a_job_to_the_next_offer_and_is_counted():
    site = a_site(an_offer("cheap", usd=1, devices=1), an_offer("dear", usd=5, devices=1))

    outcome = run(a_trace((0, 1, 1), (0.1, 1, 1)), site)

    assert outcome.cost_by == {"cheap": pytest.approx(1), "dear": pytest.approx(5)}
    assert outcome.more["sold_out"] == 1


def test_a_job_that_finds_nothing_looks_again_until_devices_are_given_back():
    outcome = run(a_trace((0, 1.1, 1), (0.1, 1, 1)), a_site(an_offer(devices=1)))

    # Every quarter of an hour from 0.1 h on; the device is free at 1.1 h.
    assert outcome.wait_h.max == pytest.approx(1.0)
    assert outcome.more["deadlines"] == 0


def test_devices_given_back_at_a_moment_serve_a_job_of_that_moment():
    assert run(a_trace((0, 1, 1), (1, 1, 1)), a_site(an_offer(devices=1))).wait_h.max == 0


def test_an_offer_that_is_not_listed_is_not_chosen():
    site = a_site(an_offer("a", usd=1, supply=steps((0.0, 1.0, 0.0), (2.0, 1.0, 9.0))), an_offer("b", usd=2))

    outcome = run(a_trace((1, 1, 1), (3, 1, 1)), site)

    assert outcome.cost_by == {"b": pytest.approx(2), "a": pytest.approx(1)}
    assert outcome.more["sold_out"] == 0


def test_spot_that_is_taken_away_is_paid_until_then_and_the_rest_runs_again():
    spot = an_offer("spot", market=CapacityType.SPOT, supply=steps((0.0, 1.0, 9.0), (1.5, 1.0, 0.0), (4.0, 1.0, 9.0)))
    site = a_site(spot, an_offer("sure", usd=3))

    lost = run(a_trace((0, 2, 1)), site)
    saved = run(a_trace((0, 2, 1)), replace(site, checkpoint_h=0.5))

    assert (lost.more["interruptions"], lost.more["lost_device_hours"]) == (1, pytest.approx(1.5))
    assert lost.cost_by == {"spot": pytest.approx(1.5), "sure": pytest.approx(6)}
    assert saved.cost_by == {"spot": pytest.approx(1.5), "sure": pytest.approx(1.5)}
    assert saved.more["lost_device_hours"] == 0


def test_spot_is_paid_at_each_moments_price_and_the_rest_at_that_of_the_purchase():
    moving = steps((0.0, 1.0, 9.0), (1.0, 3.0, 9.0))

    spot = run(a_trace((0, 2, 1)), a_site(an_offer(supply=moving, market=CapacityType.SPOT)))
    bought = run(a_trace((0, 2, 1)), a_site(an_offer(supply=moving)))

    assert (spot.cost_usd, bought.cost_usd) == (pytest.approx(4), pytest.approx(2))


def test_a_boot_that_fails_is_paid_and_the_next_offer_is_tried():
    site = a_site(an_offer("bad", usd=1, fails=0.999999, boot_p50_h=0.1, boot_p90_h=0.2), an_offer("good", usd=5))

    # The decider knows how often it fails; one that does not care shows what such a boot does.
    class Bad(CheapestNow):
        def decide(self, work, listed, view, now_h, kept):
            patient = tuple(replace(option, fails=0.0) for option in listed.options)
            return super().decide(work, replace(listed, options=patient), view, now_h, kept)

    outcome = run(a_trace((0, 1, 1)), site, Bad())

    assert outcome.more["failed_boots"] == 1
    assert outcome.cost_by == {"bad": pytest.approx(0.2), "good": pytest.approx(5)}
    assert outcome.wait_h.max == pytest.approx(0.2)


def test_the_same_seed_gives_the_same_boots_under_every_decider():
    site = a_site(an_offer(boot_p50_h=0.1, boot_p90_h=0.3, fails=0.2))
    trace = a_trace(*((hour, 1, 1) for hour in range(50)))

    one, two, other = (
        run(trace, site, decider, seed=seed)
        for decider, seed in ((CheapestNow(), 1), (GreenestNow(), 1), (CheapestNow(), 2))
    )

    assert one.wait_h == two.wait_h != other.wait_h


def test_greenest_runs_where_the_last_known_hour_was_greenest():
    site = a_site(an_offer("a", zone="A", usd=1), an_offer("b", zone="B", usd=2))
    known = signals(first_hour=1, A=[50, 999, *[1] * 60], B=[60, 1, *[1] * 60])

    assert run(a_trace((0.5, 1, 1)), site, GreenestNow(), known).cost_by.keys() == {"a"}
    assert run(a_trace((1.5, 1, 1)), site, GreenestNow(), known).cost_by.keys() == {"b"}


def test_the_broker_waits_for_a_green_hour_that_it_knows_of():
    known = signals(A=[500, 500, 500, 100, 500, *[500] * 60])
    wanted = aims(Mode.CHEAP, 0.0)

    outcome = run(a_trace((0.25, 1, 1)), a_site(), Broker(wanted, perfect(known)), known, Terms(wait_hours=(6, 6)))

    assert outcome.carbon_kg == pytest.approx(0.1)
    assert outcome.wait_h.max == pytest.approx(2.75)
    assert outcome.more["waited_by_choice_h"] == pytest.approx(2.75)


def test_what_waiting_costs_when_the_cheap_offer_goes_away_is_said():
    gone = an_offer("gone", usd=1.0, supply=steps((0.0, 1.0, 9.0), (1.0, 1.0, 0.0)))
    known = signals(A=[500, 500, 100, *[500] * 60])
    decider = Broker(aims(Mode.CHEAP, 0.0), perfect(known))

    outcome = run(
        a_trace((0.0, 1, 1)), a_site(gone, an_offer("stays", usd=1.5)), decider, known, Terms(wait_hours=(6, 6))
    )

    assert outcome.cost_by == {"stays": pytest.approx(1.5)}
    assert outcome.more["highest_premium"] == 0
    assert outcome.more["highest_premium_since_submission"] == pytest.approx(0.5)


def test_jobs_that_cannot_run_are_left_out_with_their_reason():
    outcome = run(a_trace((0, 1, 1), (0, 1, 101), (199, 1, 1)), a_site())

    assert outcome.jobs == 1
    assert outcome.left_out == {
        "needs more than 100 devices in one place": 1,
        "might end after the last hour of the intensities": 1,
    }
    with pytest.raises(
        Unreadable, match=r"no job can run on this site: needs more than 100 devices in one place \(1\)"
    ):
        run(a_trace((0, 1, 101)), a_site())


def test_carbon_is_said_beside_the_cheapest():
    site = a_site(an_offer("dirty", usd=1, zone="A"), an_offer("green", usd=1.05, zone="B"))
    known = signals(A=[400] * 60, B=[100] * 60)
    outcomes = [run(a_trace((30, 1, 1)), site, decider, known) for decider in (CheapestNow(), GreenestNow())]

    assert beside(outcomes[1], outcomes[0]).normalized_carbon == pytest.approx(0.25)


# --- nobody sees the future ---


def test_a_view_holds_only_the_hours_that_are_over():
    known = signals(first_hour=3, A=range(100))

    assert known.as_of(0.0).past == {"A": (0.0, 1.0, 2.0)}
    assert known.as_of(0.99).past == known.as_of(0.0).past
    assert known.as_of(2.5).past == {"A": (0.0, 1.0, 2.0, 3.0, 4.0)}
    assert {field.name for field in fields(View)} == {"hour", "past", "outlooks"}


@pytest.mark.parametrize("forecaster", [persistence, profile])
def test_no_decision_depends_on_hours_that_are_not_over(forecaster):
    rng = random.Random(7)
    truth = {zone: [rng.uniform(50, 600) for _ in range(24 * 25)] for zone in "AB"}
    turn = 24 * 14 + 50
    twisted = {zone: values[:turn] + [rng.uniform(0, 5000) for _ in values[turn:]] for zone, values in truth.items()}
    seen = []

    class Watched(Broker):
        def decide(self, work, listed, view, now_h, kept):
            decision = super().decide(work, listed, view, now_h, kept)
            # Until hour 50 has ended, both worlds have shown the same.
            if now_h < 51:
                seen[-1].append((work.id, now_h, decision))
            return decision

    site = a_site(an_offer("a", zone="A", usd=2.0, devices=6), an_offer("b", zone="B", usd=2.1, devices=6))
    trace = a_trace(*((rng.uniform(0, 60), rng.uniform(0.2, 6), 1) for _ in range(80)))
    trace = replace(trace, jobs=tuple(sorted(trace.jobs, key=lambda job: job.submitted_s)))
    for world in (truth, twisted):
        seen.append([])
        decider = Watched(with_wishes(aims(Mode.GREEN, 1.0)), forecaster)
        run(trace, site, decider, signals(first_hour=24 * 14, **world), Terms(wait_hours=(6, 24)))

    assert len(seen[0]) > 80
    assert any(decision.start_h > 0 for _, _, decision in seen[0])
    assert seen[0] == seen[1]


def test_a_forecaster_that_looks_at_the_truth_is_told_apart_by_the_same_check():
    rng = random.Random(7)
    values = [rng.uniform(50, 600) for _ in range(400)]
    known = signals(first_hour=300, A=values)
    twisted = signals(first_hour=300, A=[*values[:300], *(rng.uniform(0, 5000) for _ in range(100))])

    def seen(forecaster, world):
        return forecaster(world.as_of(0), "A").values

    assert seen(perfect(known), known) != seen(perfect(twisted), twisted)
    assert seen(profile, known) == seen(profile, twisted)
    assert seen(persistence, known) == seen(persistence, twisted)


def test_a_day_that_repeats_is_foreseen_exactly_and_without_error():
    day = [100.0 + 10 * hour for hour in range(24)]
    view = signals(first_hour=24 * 9 + 5, A=day * 12).as_of(0)

    for forecaster in (persistence, profile):
        outlook = forecaster(view, "A")
        assert outlook.values[:24] == pytest.approx(tuple(day[5:] + day[:5]))
        assert outlook.error(12) == pytest.approx(0)


def test_with_little_or_no_past_there_is_an_outlook_too():
    flat = signals(first_hour=2, A=[100.0, 200.0, *[1] * 50])

    assert profile(flat.as_of(0), "A").values == (150.0,)
    assert profile(signals(A=[5] * 50).as_of(0), "A").values == (450.0,)


# --- promises ---


@pytest.fixture(scope="module")
def week():
    zones = read_zones([FOUR_ZONES], ["AU-SA", "DE", "US-CAL-CISO", "NO-NO1"])
    return read_jobs(PAI_1K), Signals(zones, 24 * 10)


def four_offers(devices=40.0):
    prices = {"DE": 1.99, "US-CAL-CISO": 2.08, "AU-SA": 2.15, "NO-NO1": 2.4}
    return a_site(
        *(
            an_offer(zone, zone=zone, usd=usd, devices=devices, boot_p50_h=4 / 60, boot_p90_h=8 / 60, fails=0.02,
                     billing_step_h=1 / 60)
            for zone, usd in prices.items()
        )
    )  # fmt: skip


@pytest.mark.parametrize("mode", Mode)
def test_premium_and_deadlines_are_kept_on_a_real_week(week, mode):
    trace, known = week
    wanted = aims(mode, 1.0)

    outcome = replay(trace, four_offers(), known, Broker(wanted, profile), mode, Terms(wait_hours=(6, 24), slack=1.0))

    assert outcome.jobs == 1000
    assert outcome.more["highest_premium"] <= wanted.premium + 1e-9
    assert outcome.more["deadlines_missed_by_waiting"] == 0
    if mode is Mode.FAST:
        assert outcome.more["waited_by_choice_h"] == 0


@pytest.mark.parametrize("slack", [0.25, 1.0])
def test_deadlines_are_kept_without_knowing_how_long_a_job_takes(week, slack):
    trace, known = week
    terms = Terms(wait_hours=(6, 24), slack=slack, lengths_known=False)

    outcome = replay(trace, four_offers(), known, Broker(aims(Mode.CHEAP, 0.0), profile), "x", terms)

    assert outcome.more["waited_by_choice_h"] > 40
    assert outcome.more["deadlines_missed_by_waiting"] == 0


def test_a_policy_that_knows_only_the_queue_is_told_its_percentiles():
    told = []

    class Listening(CheapestNow):
        def decide(self, work, listed, view, now_h, kept):
            told.append((work.run_h, work.run_p90_h))
            return super().decide(work, listed, view, now_h, kept)

    trace = a_trace((0, 1.0, 1), (0, 1.5, 1), (0, 0.5, 1), (0, 5.0, 1))
    run(trace, a_site(), Listening(), terms=Terms(wait_hours=(0, 0), lengths_known=False))

    assert told == [(1.0, pytest.approx(1.4))] * 3 + [(5.0, 5.0)]


def test_what_a_bound_knows_is_what_the_replay_runs(week):
    trace, known = week
    terms = Terms(wait_hours=(6, 24), slack=1.0)

    listed = works(trace, sure(four_offers()), known, terms)

    assert len(listed) == 1000
    work, submitted = listed[0]
    assert (work.run_h, work.deadline_h, submitted) == (
        pytest.approx(6302 / 3600),
        pytest.approx(2 * 1.5 * 6302 / 3600),
        0.0,
    )


def test_starts_are_now_and_the_full_hours_within_the_wait():
    assert starts(0.25, 2.0) == [0.0, 0.75, 1.75]
    assert starts(0.0, 2.0) == [0.0, 1.0, 2.0]
    assert starts(0.5, 0.4) == [0.0]


# --- the site's file ---

GOOD = '[[offer]]\nname = "n"\nzone = "DE"\nusd_per_device_hour = 2\n'


def test_a_sites_file_is_read_with_its_defaults(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(
        "kw_per_device = 0.5\ncheckpoint_s = 1800\n" + GOOD + 'market = "spot"\nboot_p50_s = 60\nboot_p90_s = 30\n'
    )

    site = read_site(path)

    offer = site.offers[0]
    assert (site.kw_per_device, site.checkpoint_h, offer.market) == (0.5, 0.5, CapacityType.SPOT)
    assert offer.boot_p50_h == offer.boot_p90_h == pytest.approx(1 / 60)
    assert offer.supply.at(5) == (2.0, 1e9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"no \[\[offer\]\]"),
        ("kw_per_devices = 1\n" + GOOD, "there is no key kw_per_devices; did you mean kw_per_device"),
        (GOOD + "prize = 3\n", "offer n: there is no key prize"),
        (GOOD + "fails = 1\n", "fails is the share"),
        (GOOD + 'market = "futures"\n', "market is one of on_demand, spot"),
        (GOOD + "pue = true\n", "pue = True is not a number"),
        (GOOD.replace("2", "-2"), "usd_per_device_hour = -2 is not a number of at least 0"),
        (GOOD.replace('zone = "DE"\n', ""), "offer n has no zone"),
        (GOOD.replace("usd_per_device_hour = 2\n", ""), "offer n has no usd_per_device_hour"),
        (GOOD + GOOD, "two offers are named n"),
        (GOOD + 'recording = "none.json"\n', "none.json"),
        ("[[offer\n", "site.toml"),
    ],
)
def test_a_wrong_sites_file_is_refused_with_the_mend(tmp_path, text, says):
    path = tmp_path / "site.toml"
    path.write_text(text)

    with pytest.raises(Unreadable, match=says):
        read_site(path)
