"""Mix → intensity, held against files that carry their own intensity."""

import gzip
import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from unit.signals.conftest import RECORDED

from broker.cli.main import cli
from broker.core.errors import NotFound, SignalUnreadable
from broker.signals import factors, mix_file

HEADER = "timestamp,WND,SUN,WAT,OIL,NG,COL,NUC,OTH,avg_CI"
FACTORS = factors.named("eia930-ipcc-2014").grams_per_kwh


def run(*args):
    return CliRunner().invoke(cli, ["signal", "mix", *map(str, args)])


def test_a_mix_is_weighed_by_its_fuels_and_held_against_the_files_own_column(tmp_path):
    file = tmp_path / "X_2022.csv"
    file.write_text(
        f"{HEADER}\n2022-01-01 00:00:00+00:00,50,0,0,0,50,0,0,0,250.5\n2022-01-01 01:00:00+00:00,,,,,,,,,\n"
    )

    said = run(file, "--json")

    document = json.loads(said.stdout)
    assert said.exit_code == 0
    assert (document["hours"], document["gaps"]) == (1, 1)
    assert document["mean_g_per_kwh"] == pytest.approx(250.5)
    assert document["max_abs_error"] == pytest.approx(0, abs=1e-9)


def test_a_wrong_column_is_seen(tmp_path):
    file = tmp_path / "x.csv.gz"
    file.write_bytes(gzip.compress(f"{HEADER}\n2022-01-01 00:00:00,50,0,0,0,50,0,0,0,251\n".encode()))

    assert json.loads(run(file, "--json").stdout)["max_abs_error"] == pytest.approx(0.5)
    assert "0.5" in run(file).stdout


def test_a_file_without_its_own_intensity_is_good_too(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("timestamp,NG,WND\n2022-01-01T00:00Z,10,-5\n")

    document = json.loads(run(file, "--json").stdout)

    assert document["max_abs_error"] is None
    assert document["mean_g_per_kwh"] == 490


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>no</html>", "timestamp"),
        (b"", "empty"),
        (f"{HEADER}\n2022-01-01,1,2\n".encode(), "line 2"),
        (f"{HEADER}\nyesterday,1,2,3,4,5,6,7,8,9\n".encode(), "ISO-8601"),
        (f"{HEADER}\n2022-01-01,1,2,3,4,many,6,7,8,9\n".encode(), "'many' is no number"),
        (f"{HEADER}\n2022-01-01,,,,,,,,,\n".encode(), "none of its 1 hours"),
        (b"\x1f\x8b\x08\x00half", "gzip"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_what_is_no_fuel_mix_is_refused_with_the_reason(tmp_path, content, said):
    file = tmp_path / "x.csv"
    file.write_bytes(content)

    with pytest.raises(SignalUnreadable, match=r"x\.csv") as refusal:
        mix_file.compare(mix_file.parse(mix_file.read(file), file.name), FACTORS, file.name)

    assert said in str(refusal.value)
    assert run(file).exit_code == 1


def test_a_missing_file_and_an_unknown_set_are_not_found(tmp_path):
    with pytest.raises(NotFound):
        mix_file.read(tmp_path / "none.csv")
    assert run(tmp_path / "none.csv").exit_code == 4
    assert "eia930-ipcc-2014" in run(tmp_path / "none.csv", "--factors", "mine").stderr


@given(
    st.text()
    | st.from_regex(r"timestamp,NG,WND,avg_CI\n([0-9T:+-]{4,26},[0-9.e+-]*,[0-9]*,[0-9]*\n){1,3}", fullmatch=True)
)
def test_whatever_stands_in_a_file_it_is_read_or_refused(text):
    try:
        found = mix_file.compare(mix_file.parse(text, "x.csv"), FACTORS, "x.csv")
    except SignalUnreadable as exc:
        assert "x.csv" in str(exc)
    else:
        assert 11 <= found.mean_g_per_kwh <= 490


@pytest.mark.parametrize("at", ["9999-12-31T23:00Z", "0001-01-01T00:00+23:00"])
def test_a_moment_beyond_the_calendar_is_refused(at):
    with pytest.raises(SignalUnreadable, match=r"x\.csv"):
        mix_file.parse(f"timestamp,NG\n{at},1\n", "x.csv")


AUTHORITIES = ("AZPS", "BPAT", "CISO", "ERCO", "NYIS", "PJM", "SOCO")


@pytest.mark.parametrize("authority", AUTHORITIES)
def test_a_year_of_each_recorded_balancing_authority_agrees(authority):
    if RECORDED is None:
        pytest.skip("../shared/data/carbon is not here")
    file = RECORDED / f"carbon/eia930_fuelmix_2022/{authority}_2022.csv.gz"

    document = json.loads(run(file, "--json").stdout)

    assert document["max_abs_error"] < 1e-6
    assert document["hours"] + document["gaps"] == 8760
    assert document["gaps"] == {"CISO": 3, "PJM": 23}.get(authority, 0)
