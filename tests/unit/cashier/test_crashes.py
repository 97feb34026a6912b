"""A slice of `make chaos-billing`: death at any step of metering, closing and pushing loses and doubles nothing."""

import pytest
from billing_crashes import a_template, play


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return a_template(tmp_path_factory.mktemp("ledger"))


@pytest.mark.parametrize("meters", [False, True], ids=["invoices", "meters"])
@pytest.mark.parametrize("seed", range(5))
def test_death_at_any_step_loses_and_doubles_nothing(tmp_path, template, seed, meters):
    played = play(seed, tmp_path, template, meters=meters)

    assert played.wrong == []
    assert played.deaths > 5
