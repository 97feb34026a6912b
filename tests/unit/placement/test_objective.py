"""The objective: laws that hold for any options, work and intensities, and the cases it was made for."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.offers import CapacityType
from broker.placement.estimate import Checkpoint, Option, Work, carbon_kg, hazard, interruption_factor, risk, stay
from broker.placement.objective import (
    Aims,
    Kept,
    Mode,
    Why,
    aims,
    choose,
    green_enough,
    keep_warm,
    shadow_price,
    with_wishes,
)
from broker.placement.outlook import hourly, integral

HOURS = tuple(float(hour) for hour in range(25))
DIRTY = Option(id="dirty", zone="PL", usd_per_hour=2.00)
GREEN = Option(id="green", zone="NO", usd_per_hour=2.13)
OUTLOOKS = {"PL": hourly([800.0]), "NO": hourly([30.0])}
TEN_HOURS = Work(id="7", run_h=10, run_p90_h=10, kw_per_node=0.4)


def a_work(**more):
    return replace(TEN_HOURS, **more)


options = st.lists(
    st.builds(
        lambda zone, price, step, boot, spread, fails, hazard, speed: Option(
            id="", zone=zone, usd_per_hour=price, billing_step_h=step, boot_p50_h=boot, boot_p90_h=boot * spread,
            fails=fails, hazard_per_hour=hazard, speed=speed,
        ),
        st.sampled_from("ABC"), st.floats(0.5, 5), st.sampled_from([0.0, 1 / 60, 1.0]), st.floats(0, 0.3),
        st.floats(1, 3), st.floats(0, 0.4), st.sampled_from([0.0, 0.01, 0.2]), st.floats(0.5, 2),
    ),
    min_size=1, max_size=5,
).map(lambda found: [replace(option, id=str(number)) for number, option in enumerate(found)])  # fmt: skip
works = st.builds(
    lambda run, spread, wait, nodes: Work(
        id="j", run_h=run, run_p90_h=run * spread, may_wait_h=wait, nodes=nodes, kw_per_node=0.7
    ),
    st.floats(0.1, 30), st.floats(1, 2), st.floats(0, 24), st.integers(1, 4),
)  # fmt: skip
zones = st.fixed_dictionaries(
    {name: st.lists(st.floats(0, 900), min_size=24, max_size=48).map(hourly) for name in "ABC"}
)
modes = st.sampled_from([Mode.CHEAP, Mode.BALANCED, Mode.GREEN])


@given(works, options, zones, modes)
def test_nothing_is_chosen_above_the_premium(work, offered, outlooks, mode):
    wanted = aims(mode, 1.0)

    choice = choose(work, offered, outlooks, wanted, HOURS)

    floors = [of.usd for of in (stay(work, option) for option in offered) if of is not None]
    if choice is None:
        assert floors == []
    else:
        assert choice.best.usd <= (1 + wanted.premium) * min(floors) * (1 + 1e-12)
        assert choice.best.start_h <= work.may_wait_h


@given(works, options, zones)
def test_fast_never_waits_and_ends_first(work, offered, outlooks):
    choice = choose(work, offered, outlooks, aims(Mode.FAST, 1.0), HOURS)

    if choice is not None:
        ends = [of.total_h for of in (stay(work, option) for option in offered) if of is not None]
        assert choice.best.start_h == 0
        # Money still decides between ends that hardly differ: an hour is worth a hundred times the cheapest price.
        assert choice.best.end_h <= min(ends) + max(of.usd_per_hour for of in offered) * 60 / 100 + 1e-9


@given(works, options, zones, st.floats(0, 2), st.floats(0, 2))
def test_a_higher_carbon_price_never_emits_more(work, offered, outlooks, one, two):
    low, high = sorted((one, two))
    sure = Aims(premium=0.2, time_value=0.05, theta=0.0, tie_share=0.0)

    chosen = [choose(work, offered, outlooks, replace(sure, carbon_usd_per_kg=price), HOURS) for price in (low, high)]

    if chosen[0] is not None:
        assert chosen[1].best.carbon_kg <= chosen[0].best.carbon_kg + 1e-9


@given(works, options, zones, modes)
def test_the_order_of_the_options_changes_nothing(work, offered, outlooks, mode):
    one = choose(work, offered, outlooks, aims(mode, 0.5), HOURS, seed="s")
    two = choose(work, offered[::-1], outlooks, aims(mode, 0.5), HOURS, seed="s")

    assert (one and one.best) == (two and two.best)


@given(works, options, zones, modes, st.floats(0.1, 60), st.floats(1, 3))
def test_waiting_never_risks_a_deadline(work, offered, outlooks, mode, slack, limit):
    work = replace(work, deadline_h=work.run_h * limit + slack, limit_h=work.run_h * limit)

    choice = choose(work, offered, outlooks, aims(mode, 1.0), HOURS)

    if choice is not None and choice.best.start_h > 0:
        assert choice.best.start_h + work.limit_h <= work.deadline_h + 1e-9
        assert choice.best.risk <= 0.01 + 1e-9


@given(works, options, zones, modes)
@settings(max_examples=50)
def test_the_best_of_all_starts_and_options_is_found(work, offered, outlooks, mode):
    wanted = replace(aims(mode, 1.0), tie_share=0.0, theta=0.0)
    choice = choose(work, offered, outlooks, wanted, HOURS)
    stays = [of for of in (stay(work, option) for option in offered) if of is not None]
    if not stays:
        assert choice is None
        return
    unit = min(of.option.usd_per_hour for of in stays) * wanted.time_value * work.nodes
    limit = min(of.usd for of in stays) * (1 + wanted.premium)
    soonest = min(of.total_h for of in stays)
    values = [
        of.usd
        + wanted.carbon_usd_per_kg * carbon_kg(work, of, outlooks[of.option.zone], start)
        + unit * (start + of.total_h - soonest)
        for of in stays
        if of.usd <= limit
        for start in HOURS
        if start <= work.may_wait_h
    ]

    assert choice.best.objective_usd == pytest.approx(min(values), rel=1e-9)


@given(st.lists(st.floats(0, 900), min_size=1, max_size=40), st.floats(0, 0.99), st.integers(1, 40), st.floats(0, 90),
       st.floats(0, 90))  # fmt: skip
def test_an_outlook_repeats_its_last_hours_for_ever(values, begun, period, one, two):
    start, end = sorted((one, two))
    outlook = hourly(values, begun_h=begun, period=period)
    period = min(period, len(values))

    def value(hour):
        return values[hour] if hour < len(values) else values[len(values) - period + (hour - len(values)) % period]

    expected = 0.0
    at = start + begun
    while at < end + begun:
        following = min(math.floor(at) + 1.0, end + begun)
        expected += (following - at) * value(math.floor(at))
        at = following

    assert integral(outlook, start, end) == pytest.approx(expected, abs=1e-6)


def test_four_modes_choose_between_a_cheap_dirty_and_a_dearer_green_offer():
    chosen = {mode: choose(a_work(), [DIRTY, GREEN], OUTLOOKS, aims(mode, 1.0), (0.0,)).best.option.id for mode in Mode}

    assert chosen == {Mode.CHEAP: "dirty", Mode.BALANCED: "green", Mode.GREEN: "green", Mode.FAST: "dirty"}


def test_a_social_cost_of_carbon_moves_nothing_and_a_premium_does():
    dearer = replace(GREEN, usd_per_hour=2.6)

    assert (
        choose(
            a_work(), [DIRTY, dearer], OUTLOOKS, with_wishes(aims(Mode.BALANCED, 0.1), premium=0.5), (0.0,)
        ).best.option.id
        == "dirty"
    )
    assert (
        choose(
            a_work(), [DIRTY, dearer], OUTLOOKS, with_wishes(aims(Mode.GREEN, 0.1), premium=0.35), (0.0,)
        ).best.option.id
        == "green"
    )


def test_a_choice_says_what_a_kilogram_costs():
    choice = choose(a_work(), [DIRTY, GREEN], OUTLOOKS, aims(Mode.GREEN, 0.0), (0.0,))

    # 0.13 USD an hour more, 1.3 x 0.4 kW x 0.77 kg/kWh less.
    assert choice.usd_per_kg_avoided == pytest.approx(0.13 / (1.3 * 0.4 * 0.77))


def test_cheap_waits_for_carbon_that_costs_nothing():
    night = {"PL": hourly([800.0] * 6 + [200.0] * 12 + [800.0] * 6)}

    choice = choose(a_work(may_wait_h=12), [DIRTY], night, aims(Mode.CHEAP, 0.0), HOURS)

    assert choice.best.start_h in (6.0, 7.0, 8.0)
    assert choice.best.usd == choice.cheapest_now.usd


def test_waiting_that_gains_less_than_the_forecast_errs_is_left_alone():
    shape = [800.0] * 6 + [700.0] * 18
    sure, unsure = hourly(shape), hourly(shape, errors=(0.0, 150.0))

    found = [
        choose(a_work(may_wait_h=12), [DIRTY], {"PL": outlook}, aims(Mode.CHEAP, 0.0), HOURS)
        for outlook in (sure, unsure)
    ]

    assert [choice.why for choice in found] == [Why.BEST, Why.NOT_SURE]
    assert found[1].best.start_h == 0


def test_equal_hours_are_shared_out_among_jobs():
    flat = {"PL": hourly([800.0] * 3 + [100.0] * 40)}

    starts = {
        choose(
            a_work(id=str(job), run_h=1, run_p90_h=1, may_wait_h=20), [DIRTY], flat, aims(Mode.CHEAP, 0), HOURS
        ).best.start_h
        for job in range(50)
    }

    assert len(starts) > 10
    assert min(starts) >= 3


def test_a_plan_that_is_nearly_as_good_is_kept():
    outlooks = {"PL": hourly([500.0, 400.0, 399.0, 500.0])}
    wanted = replace(aims(Mode.BALANCED, 1.0), time_value=0.0, tie_share=0.0)
    work = a_work(run_h=1, run_p90_h=1, may_wait_h=3)

    kept = choose(work, [DIRTY], outlooks, wanted, HOURS, kept=Kept(option_id="dirty", start_h=1.0))
    left = choose(work, [DIRTY], outlooks, wanted, HOURS, kept=Kept(option_id="dirty", start_h=3.0))

    assert (kept.why, kept.best.start_h) == (Why.KEPT, 1.0)
    assert (left.why, left.best.start_h) == (Why.BEST, 2.0)


def test_a_deadline_that_is_lost_starts_at_once_where_it_ends_first():
    slow, quick = replace(DIRTY, id="slow"), replace(GREEN, id="quick", speed=2.0, usd_per_hour=2.1)
    work = a_work(deadline_h=3, may_wait_h=20)

    choice = choose(work, [slow, quick], OUTLOOKS, replace(aims(Mode.CHEAP, 0.0), premium=1.0), HOURS)

    assert (choice.why, choice.best.option.id, choice.best.start_h) == (Why.LATE, "quick", 0.0)


def test_a_dearer_option_that_keeps_the_deadline_is_the_floor_of_those_that_do():
    quick = replace(GREEN, id="quick", speed=2.0, usd_per_hour=9.0)

    choice = choose(a_work(deadline_h=6), [DIRTY, quick], OUTLOOKS, aims(Mode.CHEAP, 0.0), HOURS)

    assert choice.best.option.id == "quick"
    assert choice.left_out == ((DIRTY, "would end after the deadline"),)


def test_of_two_that_end_together_fast_takes_the_cheaper():
    assert (
        choose(a_work(), [GREEN, DIRTY], OUTLOOKS, aims(Mode.FAST, 1.0), (0.0,), seed="any").best.option.id == "dirty"
    )


def test_who_waits_leaves_room_for_nearly_any_boot():
    slow = replace(DIRTY, boot_p50_h=0.1, boot_p90_h=0.3)
    falling = {"PL": hourly([float(500 - hour) for hour in range(40)])}
    work = a_work(run_h=1, run_p90_h=1, limit_h=1.5, deadline_h=12.0, may_wait_h=24)

    choice = choose(work, [slow], falling, replace(aims(Mode.CHEAP, 0.0), tie_share=0.0), HOURS)

    # One boot in a million takes longer than what is left before the limit must have begun.
    assert 0 < choice.best.start_h <= 12.0 - 1.5 - 0.1 * 3 ** (4.7 / 1.2816) / 2


def test_what_is_left_out_says_why():
    spot = replace(GREEN, id="spot", market=CapacityType.SPOT, hazard_per_hour=0.1)
    unknown = replace(GREEN, id="unknown", zone="??")
    rich = replace(GREEN, id="rich", usd_per_hour=4)

    choice = choose(a_work(budget_usd=30), [DIRTY, GREEN, spot, unknown, rich], OUTLOOKS, aims(Mode.GREEN, 1.0), (0.0,))

    assert {option.id: reason for option, reason in choice.left_out} == {
        "spot": "spot would be interrupted too often for a job without checkpoints",
        "unknown": "carbon intensity of zone ?? is unknown",
        "rich": "above the job's budget of 30.00 USD",
    }


def test_an_unknown_zone_never_looks_green():
    choice = choose(a_work(), [DIRTY, replace(GREEN, zone="??")], OUTLOOKS, aims(Mode.BALANCED, 1.0), (0.0,))

    assert choice.best.option.id == "dirty"


def test_nothing_feasible_is_no_choice():
    assert choose(a_work(budget_usd=1), [DIRTY, GREEN], OUTLOOKS, aims(Mode.CHEAP, 0), (0.0,)) is None
    assert choose(a_work(carbon_cap_kg=0.01), [DIRTY, GREEN], OUTLOOKS, aims(Mode.CHEAP, 0), (0.0,)) is None


def test_money_counts_boots_failed_boots_steps_and_egress():
    option = Option(
        id="o", zone="PL", usd_per_hour=3, billing_step_h=1, boot_p50_h=0.5, boot_p90_h=0.5, fails=0.5,
        failed_boot_billed_h=0.25, disk_usd_per_hour=0.5, usd_per_gb_in=0.02, usd_per_gb_out=0.1, gb_per_hour=100,
    )  # fmt: skip

    of = stay(a_work(nodes=2, data_in_gb=50, data_out_gb=10), option)

    # Two tries of half an hour, half an hour of staging, ten of work; the end falls anywhere in a billed hour.
    assert of.setup_h == pytest.approx(1.5)
    assert of.billed_h == pytest.approx(11.5 + 0.5)
    assert of.usd == pytest.approx(2 * (3.5 * 12 + 3 * 1 * 0.25) + 50 * 0.02 + 10 * 0.1)


def test_interruptions_stretch_a_run_and_too_many_forbid_it():
    spot = replace(GREEN, hazard_per_hour=0.02, restart_h=0.1)

    assert interruption_factor(spot, 10, 0.1, None) == pytest.approx(math.expm1(0.2) / 0.2)
    assert interruption_factor(spot, 20, 0.1, None) is None
    assert interruption_factor(spot, 20, 0.1, Checkpoint(interval_h=1, cost_h=0.05)) == pytest.approx(
        1 + 0.05 + 0.02 * 0.7
    )


def test_the_hazard_moves_from_the_prior_to_what_was_seen():
    assert hazard(0, 0, 0.05, 100) == pytest.approx(0.05)
    assert hazard(50, 1000, 0.01, 100) == pytest.approx(51 / 1100)


def test_the_risk_is_that_of_the_log_normal_sum():
    of = stay(a_work(run_p90_h=15), replace(DIRTY, boot_p50_h=0.1, boot_p90_h=0.2))

    assert risk(of, 0, None) == 0
    assert risk(of, 0, 15.3) == pytest.approx(0.1, abs=0.01)
    assert risk(of, 0, 10.15) == pytest.approx(0.5, abs=0.02)
    assert risk(of, 20, 15) == 1


def test_a_job_that_is_ended_at_its_limit_cannot_be_later_than_that():
    unknown = a_work(run_h=1, run_p90_h=20, limit_h=4)
    of = stay(unknown, DIRTY)

    assert risk(of, 0, 3.9) > 0.05
    assert risk(of, 1, 5.0) == 0
    assert of.run_h <= 4


def test_the_shadow_price_rises_while_the_account_emits_too_fast_and_is_bounded():
    assert shadow_price(0.5, used_kg=60, budget_kg=100, elapsed=0.5) == pytest.approx(0.55)
    assert shadow_price(0.01, used_kg=10, budget_kg=100, elapsed=0.5) == 0
    assert shadow_price(1.9, used_kg=200, budget_kg=100, elapsed=0.1) == 2
    with pytest.raises(ValueError, match="above 0 kg"):
        shadow_price(0, used_kg=0, budget_kg=0, elapsed=0)


def test_a_node_is_kept_warm_where_that_is_cheaper_than_booting_again():
    often = {"boot_usd": 0.2, "time_usd": 0.1, "idle_usd": 0.1, "idle_kg": 0.02, "carbon_usd_per_kg": 1.0}

    assert keep_warm(chance=0.5, **often)
    assert not keep_warm(chance=0.3, **often)


def test_without_a_forecast_a_low_reading_of_the_last_days_is_good_enough():
    trailing = [float(hour) for hour in range(48)]

    assert green_enough(10.0, trailing)
    assert not green_enough(30.0, trailing)
    assert green_enough(30.0, [])
