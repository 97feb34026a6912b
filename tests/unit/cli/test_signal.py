"""`broker signal` without a daemon and without a network."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from unit.config.conftest import Site
from unit.signals.conftest import SMALL

from broker.cli.main import cli


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path).change('cluster = "demo"', f'cluster = "demo"\nstate_dir = "{tmp_path / "state"}"')


@pytest.fixture
def run(site):
    def run(*args):
        site.path.write_text(site.text)
        runner = CliRunner(env={"COLUMNS": "80", "TZ": "UTC"})
        return runner.invoke(cli, ["signal", *args, *(["--config", str(site.path)] if args[0] in CONFIGURED else [])])

    return run


CONFIGURED = {"list", "show", "fetch"}


@pytest.fixture
def germany(site, tmp_path):
    """A file that says 100 g/kWh in the present hour, then 150, 200, 50 …"""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [now + n * timedelta(hours=1) for n in range(-30, 31)]
    file = tmp_path / "de.csv"
    values = [100 + 50 * (n % 3) - (100 if n == 3 else 0) for n in range(-30, 31)]
    file.write_text(
        "datetime,g_per_kwh\n" + "".join(f"{at.isoformat()},{v}\n" for at, v in zip(hours, values, strict=True))
    )
    site.add(f'[signal.mine]\nkind = "file"\nzones = ["DE"]\npath = "{file}"\n')
    return file


def test_a_zone_is_shown_with_its_link_and_the_hours_ahead(run, germany):
    said = json.loads(run("show", "DE", "--hours", "5", "--json").stdout)

    assert (said["zone"], said["link"], said["why"]) == ("DE", "live", [])
    assert (said["reading"]["value"], said["reading"]["unit"], said["reading"]["quality"]) == (100, "g/kWh", "measured")
    assert said["ahead"]["link"] == "forecast"
    assert [hour["value"] for hour in said["ahead"]["readings"]] == [100, 150, 200, 0, 150]
    assert said["prices"]["readings"] == []

    text = run("show", "DE", "--hours", "5").stdout
    assert "100 g/kWh (live)" in text
    assert "██" in text
    assert "lowest" in text


def test_sources_and_zones_are_listed(run, germany):
    said = json.loads(run("list", "--json").stdout)

    assert [(one["name"], one["kind"], one["needs_key"]) for one in said["sources"]] == [("mine", "file", False)]
    assert [(zone["zone"], zone["link"]) for zone in said["zones"]] == [("DE", "live")]
    assert "DE" in run("list").stdout


def test_without_a_source_the_mend_is_said(run):
    assert "[signal.NAME]" in run("list").stdout
    assert json.loads(run("list", "--json").stdout)["sources"] == []
    assert run("fetch").exit_code == 0


def test_every_kind_says_its_terms(run):
    kinds = {one["kind"]: one for one in json.loads(run("list", "--kinds", "--json").stdout)["kinds"]}

    assert kinds["eia930"]["needs_key"]
    assert all(one["licence"] and one["limits"] for one in kinds.values())
    assert "US public domain" in run("list", "--kinds").stdout


def test_what_was_fetched_is_remembered_when_the_source_is_gone(run, germany):
    assert run("fetch", "DE").exit_code == 0
    germany.unlink()

    said = run("fetch", "--json")

    [zone] = json.loads(said.stdout)["zones"]
    assert (said.exit_code, zone["reading"]["value"]) == (0, 100)
    assert "cannot be read" in zone["troubles"][0]


def test_a_source_that_never_answered_is_exit_5(run, germany):
    germany.unlink()

    said = run("fetch")

    assert said.exit_code == 5
    assert "DE: unknown" in said.stdout


def test_an_unknown_zone_is_not_found_and_a_known_year_is_shown_without_a_source(run, germany):
    assert run("show", "ZZ").exit_code == 4
    assert json.loads(run("show", "US-CAL-CISO", "--json").stdout)["link"] == "annual"


def test_show_makes_no_request(run, site):
    site.add('[signal.california]\nkind = "caiso"\nproxy = "http://127.0.0.1:1"\n')

    said = json.loads(run("show", "US-CAL-CISO", "--json").stdout)

    assert said["link"] == "annual"
    assert "never fetched" in said["why"][0]


def test_a_saved_body_is_recognised_or_refused_with_the_reason(run, tmp_path):
    said = json.loads(run("read", str(SMALL / "caiso_netdemand_20191103.csv"), "--day", "2019-11-03", "--json").stdout)
    page = tmp_path / "page"
    page.write_text("<html><title>Access Denied</title></html>")

    assert (said["format"], said["values"]) == ("caiso_outlook netdemand", 288)
    refused = run("read", str(page))
    assert (refused.exit_code, "Access Denied" in refused.stderr) == (1, True)
    assert run("read", str(tmp_path / "none")).exit_code == 4
