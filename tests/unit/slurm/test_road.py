import sys

import pytest

from broker.config import SlurmRoad
from broker.core.errors import ConfigError
from broker.slurm.client import CommandClient
from broker.slurm.pyslurm_process import PyslurmProcess, PyslurmUnusable
from broker.slurm.road import choose


@pytest.fixture
def without_pyslurm(tmp_path):
    """An interpreter that has no pyslurm, whatever this one has."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return str(python)


def test_without_pyslurm_the_commands_are_taken_and_the_reason_is_told(tmp_path, without_pyslurm):
    road = choose(SlurmRoad.AUTO, tmp_path / "slurm.conf", 10.0, without_pyslurm)
    assert isinstance(road.client, CommandClient)
    assert road.why == "commands, since pyslurm cannot be loaded: No module named 'pyslurm'"


def test_pyslurm_is_not_looked_for_where_the_commands_are_wanted(tmp_path):
    road = choose(SlurmRoad.COMMANDS, tmp_path / "slurm.conf", 10.0, "/nonexistent")
    assert isinstance(road.client, CommandClient)
    assert road.why == "commands, as configured"


def test_a_site_that_insists_on_pyslurm_is_told_what_is_missing(tmp_path, without_pyslurm):
    with pytest.raises(ConfigError, match=r"pyslurm cannot be loaded.*install the pyslurm of your Slurm's release"):
        choose(SlurmRoad.PYSLURM, tmp_path / "slurm.conf", 10.0, without_pyslurm)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo fatal: no slurm.conf >&2; exit 1", "ended at once: fatal: no slurm.conf"),
        ("echo bad >&2; kill -SEGV $$", r"ended at once: bad \(ended by signal 11\)"),
    ],
)
def test_an_end_before_the_first_question_is_told_with_its_last_words(tmp_path, script, said):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    process = PyslurmProcess(str(program), tmp_path / "slurm.conf", 10.0)
    with pytest.raises(PyslurmUnusable, match=said):
        process.ask("nodes")
