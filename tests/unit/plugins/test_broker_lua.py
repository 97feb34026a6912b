"""broker.lua in a Lua of its own, with what Slurm would hand to it."""

import subprocess
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[3] / "slurm_plugins"

_SLURM = """
slurm = { SUCCESS = 0, ERROR = -1 }
function slurm.log_user(form, ...) print("user: " .. form:format(...)) end
function slurm.log_error(form, ...) print("log: " .. form:format(...)) end
parts = { cpu = { flag_default = 1 }, h100 = { flag_default = 0 } }
"""


@pytest.fixture
def lua(tmp_path):
    """Runs a script after slurm's table and the module `broker` were made; its output."""
    text = (PLUGINS / "broker.lua").read_text()
    assert text.count('local PARTITIONS = ""') == 1
    module = tmp_path / "broker.lua"
    module.write_text(text.replace('local PARTITIONS = ""', 'local PARTITIONS = "a10 h100"'))

    def lua(script):
        command = ["lua5.3", "-e", f'{_SLURM}broker = dofile("{module}") {script}']
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return lua


def submit(lua, **job):
    fields = ", ".join(f"{key} = {value}" for key, value in job.items())
    return lua(f"print(broker.job_submit({{ {fields} }}, parts, 1001))")


def test_right_wishes_pass(lua):
    assert submit(lua, partition='"h100"', comment='"broker:spot=no"') == "0\n"


def test_wrong_wishes_are_refused_and_the_user_is_told(lua):
    said, code = submit(lua, partition='"h100"', comment='"broker:premium=15"').splitlines()
    assert said == "user: broker: premium=15 will not do: wanted a percentage, such as 15%"
    assert code == "-1"


@pytest.mark.parametrize("partition", ['"cpu"', "nil", '"cpu,big"'])
def test_jobs_of_other_partitions_are_not_looked_at(lua, partition):
    assert submit(lua, partition=partition, comment='"broker:nonsense"', het_job_offset=0) == "0\n"


def test_one_elastic_partition_among_several_counts(lua):
    assert submit(lua, partition='"cpu,a10"', comment='"broker:nonsense"').endswith("-1\n")


def test_the_default_partition_counts_when_none_is_named(lua):
    assert lua(
        "parts.h100.flag_default = 1 parts.cpu.flag_default = 0 print(broker.job_submit({comment='broker:x'}, parts, 1))"
    ).endswith("-1\n")


def test_heterogeneous_jobs_are_refused_and_ordinary_ones_are_not(lua):
    assert "heterogeneous" in submit(lua, partition='"h100"', het_job_offset=1)
    assert submit(lua, partition='"h100"', het_job_offset=4294967294) == "0\n"


def test_a_changed_comment_is_checked_and_other_changes_are_not(lua):
    modify = "print(broker.job_modify({}, {{ partition = 'h100', comment = 'broker:zone=a' }}, parts, 1001))"
    assert lua(modify.format("{ comment = 'broker:zones=b' }")) == "0\n"
    assert lua(modify.format("{ comment = 'broker:zone=b' }")).endswith("-1\n")
    assert lua(modify.format("{ admin_comment = 'x' }")) == "0\n"


def test_a_job_that_moves_to_an_elastic_partition_brings_its_wishes(lua):
    modify = "print(broker.job_modify({ partition = 'h100' }, { partition = 'cpu', comment = '%s' }, parts, 1001))"
    assert lua(modify % "broker:zone=a").endswith("-1\n")
    assert lua(modify % "broker:zones=a") == "0\n"


def test_a_long_wrong_comment_is_judged_quickly(lua):
    assert submit(lua, partition='"h100"', comment='"broker:" .. ("x"):rep(60000) .. "=1"').endswith("-1\n")


def test_the_ready_made_job_submit_lua_lets_everybody_through_when_the_module_is_gone():
    text = (PLUGINS / "job_submit.lua").read_text().replace("/etc/slurm/broker/broker.lua", "/nonexistent/broker.lua")
    script = _SLURM + text.replace("return slurm.SUCCESS\n", "") + "\nprint(slurm_job_submit({}, {}, 1))"
    done = subprocess.run(["lua5.3", "-e", script], capture_output=True, text=True, timeout=20, check=True)
    assert "cannot be loaded" in done.stdout
    assert done.stdout.endswith("\n0\n")
