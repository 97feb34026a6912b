import pytest
from jinja2 import UndefinedError

from broker.core.errors import BrokerError
from broker.templating import render, shipped


def test_what_we_ship_is_found():
    assert shipped("slurm_plugins", "shim.py").is_file()
    assert shipped("templates", "slurm").is_dir()


def test_what_is_missing_is_named():
    with pytest.raises(BrokerError, match=r"templates/nothing\.j2 is missing"):
        shipped("templates", "nothing.j2")


def test_a_value_that_a_template_misses_is_an_error_and_not_an_empty_word():
    with pytest.raises(UndefinedError):
        render("slurm/broker.conf")
