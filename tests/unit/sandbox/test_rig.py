import subprocess

import pytest

from broker.core.errors import BrokerError
from broker.sandbox import prepare, rig
from broker.sandbox.layout import layout
from broker.sandbox.supervisor import Supervisor


def first_process(tmp_path, stdin):
    command = ["sh", "-c", rig._FIRST, "sh", "touch", str(tmp_path / "started")]
    subprocess.run(command, input=stdin, check=False, timeout=10)
    return (tmp_path / "started").exists()


def test_a_sandbox_that_was_never_put_on_record_starts_nothing(tmp_path):
    assert not first_process(tmp_path, b"")
    assert first_process(tmp_path, b"go\n")


def test_a_wrong_fault_script_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "check_machine", lambda: None)
    sandbox = rig.Sandbox(tmp_path / "sandbox", say=lambda line: None)
    with pytest.raises(BrokerError, match=r"'sold_ou' is unknown; known are .*sold_out"):
        sandbox.up(faults=[{"kind": "sold_ou"}])
    assert list(tmp_path.iterdir()) == []


def test_starting_a_part_that_is_none_names_those_that_are(tmp_path):
    with pytest.raises(BrokerError, match=r"'slurmctl' .*slurmctld.*slurmd-local-1"):
        Supervisor(layout(tmp_path), {}).restart("slurmctl")


@pytest.mark.parametrize("deed", ["down", "parts"])
def test_whoever_is_not_root_is_told_so(tmp_path, monkeypatch, deed):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BrokerError, match="as root"):
        getattr(rig.Sandbox(tmp_path), deed)()
