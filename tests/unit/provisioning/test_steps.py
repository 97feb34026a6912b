import base64
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from unit.provisioning.plans import a_plan

from broker.core.errors import Refused
from broker.provisioning.steps import (
    JobOnNode,
    console_step,
    drain_steps,
    end_job_steps,
    join_steps,
    renew_step,
    start_job_steps,
)


@dataclass(frozen=True, kw_only=True)
class AHome:
    user: str = "alice"
    home: str = "/home/alice"
    uid: int = 1001
    gid: int = 1001
    groups: tuple[tuple[str, int], ...] = (("alice", 1001), ("science", 1010))
    gecos: str = "Alice O'Hara"
    shell: str = "/bin/bash"


def a_job(**changes):
    return JobOnNode(job_id=7, home=AHome(**changes), until=datetime(2026, 11, 24, tzinfo=UTC))


def test_slurmd_comes_last_and_the_host_key_first():
    names = [step.name for step in join_steps(a_plan())]

    assert names == [
        *("host_key_made", "host_key", "facts", "bundle", "identities", "overlay", "overlay_up", "munge"),
        *("home_key", "dead_man", "slurmd"),
    ]


def test_a_provider_without_trust_never_sees_the_munge_key():
    steps = join_steps(a_plan(munge_key=None))

    assert "munge" not in [step.name for step in steps]
    assert all(step.stdin is None for step in steps)


def test_the_munge_key_travels_on_standard_input_only():
    plan = a_plan()
    steps = join_steps(plan)

    assert [step.name for step in steps if step.stdin == plan.munge_key] == ["munge"]
    shown = "".join(step.script + repr(step) for step in steps) + repr(plan)
    assert "the munge key" not in shown
    assert base64.b64encode(plan.munge_key).decode() not in shown


def test_every_script_is_posix_sh():
    steps = [*join_steps(a_plan()), *start_job_steps(a_job()), *end_job_steps("alice"), *drain_steps()]
    for step in [*steps, renew_step(), console_step()]:
        checked = subprocess.run(["sh", "-n"], input=step.script, capture_output=True, text=True, check=False)
        assert checked.stderr == "", step.name


def test_a_value_with_a_quote_stays_one_word():
    script = start_job_steps(a_job())[0].script
    # Only what writes the account's lines, and to standard output.
    lines = [line for line in script.splitlines() if line.startswith(("user=", "printf"))]
    printing = "\n".join(lines).replace('"$RUN/passwd"', "/dev/stdout").replace('"$RUN/group"', "/dev/stdout")

    printed = subprocess.run(["sh", "-c", printing], capture_output=True, text=True, check=True).stdout

    assert printed.splitlines() == [
        "alice:*:1001:1001:Alice O'Hara:/home/alice:/bin/bash",
        "alice:x:1001:alice",
        "science:x:1010:alice",
    ]


def test_a_primary_group_without_a_name_gets_one():
    assert "broker-1001:x:1001:alice" in start_job_steps(a_job(groups=()))[0].script


@pytest.mark.parametrize(
    "changes",
    [
        {"home": "/"},
        {"home": "/root/x"},
        {"home": "/home"},
        {"home": "home/alice"},
        {"home": "/home/../etc"},
        {"home": "/etc/alice"},
        {"home": "/home/al ice"},
        {"user": "al:ice"},
        {"user": "-alice"},
        {"gecos": "Alice\nroot:*:0:0::/root:/bin/sh"},
        {"shell": "/bin/sh:x"},
        {"groups": (("a\nb", 5),)},
    ],
)
def test_an_account_that_would_change_the_machine_is_refused(changes):
    with pytest.raises(Refused, match="user "):
        start_job_steps(a_job(**changes))
