"""ResumeProgram and its brothers, started as Slurm starts them: no descriptors, no environment."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

SHIM = Path(__file__).parents[3] / "slurm_plugins" / "shim.py"


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "intents").mkdir()
    program = tmp_path / "shim.py"
    text = SHIM.read_text()
    assert text.count('SPOOL = "/var/spool/broker"') == 1
    program.write_text(text.replace('SPOOL = "/var/spool/broker"', f'SPOOL = "{tmp_path}"'))
    program.chmod(0o755)
    for name in ("resume", "suspend", "resume-failed", "revive"):
        (tmp_path / name).symlink_to("shim.py")
    return tmp_path


def call(spool, name, *words, resume_file=None):
    """Its exit status. Descriptors 0 to 2 are closed, the environment is empty."""
    environment = {"SLURM_RESUME_FILE": str(resume_file)} if resume_file else {}
    script = 'program=$1; shift; exec "$program" "$@" <&- >&- 2>&-'
    return subprocess.run(["sh", "-c", script, "sh", spool / name, *words], env=environment, check=False).returncode


def intents(spool):
    return [(path.name, json.loads(path.read_text())) for path in sorted((spool / "intents").glob("*.json"))]


@pytest.mark.parametrize(
    ("program", "verb"), [("resume", "resume"), ("suspend", "suspend"), ("resume-failed", "resume_failed")]
)
def test_the_name_it_is_called_by_is_what_slurm_asks(spool, program, verb):
    assert call(spool, program, "h100-[1-4]") == 0
    ((name, body),) = intents(spool)
    assert (body["version"], body["verb"], body["nodes"], body["resume"]) == (1, verb, "h100-[1-4]", None)
    at, pid, verb_in_name = name.removesuffix(".json").split("-")
    assert abs(int(at) / 1e9 - body["at"]) < 0.001
    assert (pid.isdecimal(), verb_in_name) == (True, verb)


@pytest.mark.parametrize(
    "content",
    [
        {"jobs": [{"job_id": 1, "nodes": "c0"}], "all_nodes": "c[0-1]"},
        {"jobs": [{"job_id": 1, "nodes_resume": "c0", "extra": "ü"}], "all_nodes_resume": "c[0-1]"},
    ],
    ids=["22.05", "23.02"],
)
def test_the_resume_file_is_handed_on_as_it_was(spool, content):
    (spool / "resume.json").write_text(json.dumps(content))
    assert call(spool, "resume", "c[0-1]", resume_file=spool / "resume.json") == 0
    assert intents(spool)[0][1]["resume"] == content


@pytest.mark.parametrize("content", [None, "", "{half", "[1]", "\xff\xfe"])
def test_a_resume_file_that_is_gone_or_broken_is_null_and_the_wish_is_kept(spool, content):
    if content is not None:
        (spool / "resume.json").write_text(content, encoding="latin-1")
    assert call(spool, "resume", "c0", resume_file=spool / "resume.json") == 0
    assert intents(spool)[0][1]["resume"] is None


def test_only_the_broker_besides_slurm_may_read_an_intent(spool):
    call(spool, "suspend", "c0")
    (path,) = (spool / "intents").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_it_knocks_where_somebody_listens(spool):
    os.mkfifo(spool / "knock")
    listener = os.open(spool / "knock", os.O_RDONLY | os.O_NONBLOCK)
    try:
        call(spool, "suspend", "c0")
        assert os.read(listener, 10) == b"k"
    finally:
        os.close(listener)


def test_with_nobody_at_the_door_it_neither_waits_nor_leaves_a_file_there(spool):
    assert call(spool, "suspend", "c0") == 0
    assert not (spool / "knock").exists()
    os.mkfifo(spool / "knock")
    assert call(spool, "suspend", "c0") == 0
    assert len(intents(spool)) == 2


def test_a_wish_that_cannot_be_kept_is_told_by_the_exit_status(spool):
    (spool / "intents").rmdir()
    assert call(spool, "resume", "c0") == 1


@pytest.mark.parametrize(
    ("program", "words"), [("revive", ["c0"]), ("resume", []), ("resume", [""]), ("resume", ["a", "b"])]
)
def test_a_call_that_is_not_slurms_is_refused(spool, program, words):
    assert call(spool, program, *words) == 1
    assert intents(spool) == []


def test_ten_thousand_unfolded_names_fit(spool):
    names = ",".join(f"n{i}-x" for i in range(10_000))
    assert call(spool, "resume", names) == 0
    assert intents(spool)[0][1]["nodes"] == names
