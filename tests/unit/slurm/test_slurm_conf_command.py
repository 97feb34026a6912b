"""`broker slurm-conf` on files."""

import json
import os
import stat

import pytest
from click.testing import CliRunner

from broker.cli.main import cli

_TOML = """
[site]
cluster = "x"
spool_dir = "{folder}/spool"
[slurm]
conf = "{folder}/slurm/slurm.conf"
plugin_dir = "{folder}/slurm/broker"
resume_timeout_s = {timeout}
[overlay]
cidr = "10.77.0.0/16"
endpoint = "192.0.2.1:51820"
[[shape]]
name = "h100"
partition = "cloud"
gpu = "H100"
cpus = 2
memory_gib = 8
disk_gib = 20
nodes = 2
[provider.lambda-a]
kind = "lambda"
api_key_env = "TEST_KEY"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/slurm.conf").write_text("ClusterName=x\nSlurmctldHost=ctl\nSelectType=select/cons_tres\n")
    (tmp_path / "broker.toml").write_text(_TOML.format(folder=tmp_path, timeout=1500))
    return tmp_path


def broker(folder, *words):
    return CliRunner(env={"TEST_KEY": "k"}).invoke(cli, ["slurm-conf", "--config", str(folder / "broker.toml"), *words])


def test_it_prints_the_fragment(folder):
    done = broker(folder)
    assert done.exit_code == 0
    assert f"ResumeProgram={folder}/slurm/broker/resume\n" in done.stdout


def test_json_has_the_three_texts(folder):
    answer = json.loads(broker(folder, "--json").stdout)
    assert answer["schema_version"] == 1
    assert answer["gres_conf"].startswith("NodeName=h100-[1-2] ")
    assert "10.77.0.2 h100-1" in answer["hosts"]
    assert "PartitionName=cloud" in answer["slurm_conf"]


def test_check_fails_before_and_passes_after_the_installation(folder):
    assert broker(folder, "--check").exit_code == 1
    assert broker(folder, "--install", str(folder / "slurm/broker")).exit_code == 0
    with (folder / "slurm/slurm.conf").open("a") as conf:
        conf.write("include broker.conf\n")
    done = broker(folder, "--check")
    assert done.exit_code == 0, done.output


def test_check_names_file_and_line_of_an_include(folder):
    (folder / "slurm/more.conf").write_text("# a line\nProlog=/x\n")
    with (folder / "slurm/slurm.conf").open("a") as conf:
        conf.write("include more.conf\n")
    found = json.loads(broker(folder, "--check", "--json").stdout)["findings"]
    assert [finding["where"] for finding in found if finding["message"].startswith("Prolog=")] == ["more.conf:2"]


def test_installed_programs_run_and_nobody_else_may_write_them(folder):
    broker(folder, "--install", str(folder / "slurm/broker"))
    programs = folder / "slurm/broker"
    for name in ("resume", "suspend", "resume-failed", "prolog_slurmctld.sh"):
        mode = (programs / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o755
        assert (programs / name).stat().st_uid == os.geteuid()
    assert f'SPOOL = "{folder}/spool"' in (programs / "shim.py").read_text()
    waiter = (programs / "prolog_slurmctld.sh").read_text()
    assert f"\nSPOOL={folder}/spool\nPARTITIONS='cloud'\nLIMIT=1620\n" in waiter
    assert '\nlocal PARTITIONS = "cloud"\n' in (programs / "broker.lua").read_text()
    assert f'"{programs}/broker.lua"' in (folder / "slurm/job_submit.lua").read_text()


def test_the_sites_own_files_are_never_changed(folder):
    mine = {
        "job_submit.lua": "-- mine\n",
        "gres.conf": "# mine\n",
        "slurm.conf": (folder / "slurm/slurm.conf").read_text(),
    }
    for name, text in mine.items():
        (folder / "slurm" / name).write_text(text)
    done = broker(folder, "--install", str(folder / "slurm/broker"))
    assert {name: (folder / "slurm" / name).read_text() for name in mine} == mine
    assert "include broker.conf" in done.stdout
    assert "job_submit.lua" in done.stdout.split("- add this line")[1]


def test_a_second_installation_takes_new_shapes_into_the_files_it_wrote(folder):
    broker(folder, "--install", str(folder / "slurm/broker"))
    config = folder / "broker.toml"
    config.write_text(config.read_text().replace("nodes = 2", "nodes = 5"))
    broker(folder, "--install", str(folder / "slurm/broker"))
    assert "h100-[1-5]" in (folder / "slurm/gres.conf").read_text()
    assert "h100-[1-5]" in (folder / "slurm/broker.conf").read_text()


def test_it_prints_the_export_sshd_s_configuration(folder):
    lines = broker(folder, "--export-sshd").stdout.splitlines()

    assert {"ListenAddress 10.77.0.1", "Port 2022", "ForceCommand internal-sftp"} <= set(lines)
    assert json.loads(broker(folder, "--export-sshd", "--json").stdout)["export_sshd_conf"].splitlines() == lines
    assert broker(folder, "--export-sshd", "--check").exit_code == 2


def test_check_and_install_at_once_is_a_usage_error(folder):
    assert broker(folder, "--check", "--install", "/tmp/x").exit_code == 2


def test_a_time_that_slurm_cannot_hold_is_refused(folder):
    (folder / "broker.toml").write_text(_TOML.format(folder=folder, timeout=80000))
    done = broker(folder)
    assert done.exit_code == 1
    assert "65533" in done.stderr


def test_a_missing_slurm_conf_is_named(folder):
    (folder / "slurm/slurm.conf").unlink()
    done = broker(folder, "--check")
    assert done.exit_code == 1
    assert "slurm.conf cannot be read" in done.stderr


def test_a_file_that_includes_itself_is_named(folder):
    (folder / "slurm/slurm.conf").write_text("include slurm.conf\n")
    done = broker(folder, "--check")
    assert done.exit_code == 1
    assert "includes itself" in done.stderr
