"""`broker simulate` as people and programs call it."""

import pytest
from unit.simulate.conftest import FOUR_ZONES, PAI_1K

WEEK = ("simulate", "--jobs", PAI_1K, "--carbon", FOUR_ZONES)


def test_the_document_has_the_promised_keys_and_figures(broker):
    ended = broker(*WEEK, "--zone", "AU-SA", "--start-hour", 0, "--policy", "spot-res-carbon-time", "--reserved", 9,
                   "--wait", "6,24", "--time-unit", "seconds", "--world", "gaia", "--json")  # fmt: skip

    said = ended.json
    assert ended.code == 0
    assert {
        "schema_version",
        "policy",
        "jobs",
        "carbon_kg",
        "normalized_carbon",
        "cost_usd",
        "mean_wait_h",
    } <= said.keys()
    assert (said["policy"], said["jobs"], said["world"]) == ("spot-res-carbon-time", 1000, "gaia")
    assert said["normalized_carbon"] == pytest.approx(0.861709, abs=1e-6)
    assert said["cost_usd"] == pytest.approx(117.470, abs=5e-4)
    assert said["wait_h"].keys() == {"mean", "p50", "p90", "p99", "max"}


def test_people_are_told_what_it_came_to_and_what_was_left_out(broker):
    ended = broker(*WEEK, "--zone", "DE", "--start-hour", 600, "--policy", "no-wait")

    assert ended.code == 0
    assert "100.0% of what starting at once emits" in ended.out
    assert "jobs left out: arrives after the last hour of the window" in ended.err


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--zone", "DE", "--policy", "lowest-slots"), 2, "Did you mean 'lowest-slot'?"),
        (("--zone", "DE", "--policy", "no-wait", "--wait", "6"), 2, "'6' is not two numbers of hours"),
        (("--zone", "DE", "--policy", "no-wait", "--wait", "-1,2"), 2, "hours are not below 0"),
        (("--zone", "DE", "--policy", "no-wait", "--time-zone", "UTC"), 2, "--time-zone is for a sacct export"),
        (("--zone", "XX", "--policy", "no-wait"), 1, "no zone XX among its 4"),
        (("--zone", "DE", "--policy", "no-wait", "--start-hour", "999"), 1, "hour 999 of zone DE"),
        (("--policy", "no-wait"), 1, "name one with --zone"),
    ],
)
def test_a_wrong_question_gets_its_reason(broker, more, code, says):
    ended = broker(*WEEK, *more)

    assert ended.code == code
    assert says in ended.err


def test_hours_taken_for_seconds_are_noticed(broker, tmp_path):
    trace = tmp_path / "hours.csv"
    trace.write_text("arrival_time,length,cpus\n0.0,0.75,4\n0.0,19.08,4\n0.5,6.0,4\n")
    asked = ("simulate", "--jobs", trace, "--carbon", FOUR_ZONES, "--zone", "DE", "--policy", "no-wait", "--json")

    assert "Say --time-unit hours" in broker(*asked).err
    assert broker(*asked, "--time-unit", "hours").json["device_hours"] == pytest.approx(103.32, abs=0.01)


SITE = """
[[offer]]
name = "x"
zone = "DE"
usd_per_device_hour = 2
[[offer]]
name = "y"
zone = "NO-NO1"
usd_per_device_hour = 2.1
"""


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def test_the_broker_replays_a_week_on_a_site(broker, site):
    ended = broker(
        *WEEK, "--site", site, "--start-hour", 240, "--policy", "broker", "--mode", "green", "--slack", "1", "--json"
    )

    said = ended.json
    assert ended.code == 0
    assert (said["world"], said["policy"], said["jobs"], said["zone"]) == ("site", "broker", 1000, None)
    assert said["normalized_carbon"] < 0.2
    assert said["highest_premium"] == pytest.approx(0.05)
    assert said["deadlines_missed_by_waiting"] == 0
    assert said["cost_usd_by"].keys() == {"y"}


def test_the_example_site_runs_in_one_zone(broker):
    ended = broker(*WEEK, "--zone", "DE", "--policy", "cheapest")

    assert ended.code == 0
    assert "100.0% of what cheapest, now emits" in ended.out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--policy", "broker", "--world", "gaia"), "policy broker is one of world site"),
        (("--policy", "broker", "--reserved", "3"), "--reserved is for world gaia"),
        (("--policy", "brocker"), "Did you mean 'broker'?"),
    ],
)
def test_a_question_for_the_other_world_is_a_usage_error(broker, more, says):
    ended = broker(*WEEK, *more)

    assert ended.code == 2
    assert says in ended.err
