from datetime import UTC, datetime

import pytest
from unit.provisioning.plans import a_plan

from broker.core.errors import NodeUnreachable, StepFailed
from broker.provisioning.fake import FakeMachine, FakeShell, facts_of
from broker.provisioning.run import run_join
from broker.provisioning.steps import join_steps

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NAMES = [step.name for step in join_steps(a_plan())]


class Attempt:
    """One machine, and the record of its join, over as many attempts as it takes."""

    def __init__(self, **facts):
        good = facts_of(a_plan().shape, epoch=NOW.timestamp())
        self.machine = FakeMachine(outputs={"facts": good | facts})
        self.done = {}
        self.story = []

    def run(self):
        def on_step(name, outputs, seconds):
            assert seconds >= 0
            self.done[name] = outputs
            self.story.append(name)

        def add_peer(key):
            self.story.append(f"peer {key[:4]}")

        run_join(FakeShell(self.machine), a_plan(), self.done, on_step, add_peer, clock=lambda: NOW)


def test_a_join_runs_every_step_and_names_the_peer_before_the_overlay_comes_up():
    attempt = Attempt()

    attempt.run()

    at = NAMES.index("overlay") + 1
    assert attempt.story == [*NAMES[:at], "peer bm9k", *NAMES[at:]]
    assert attempt.machine.uploads == ["/opt/broker/bundle.tar.gz"]


@pytest.mark.parametrize("cut", NAMES)
def test_a_join_that_was_cut_anywhere_goes_on_from_there(cut):
    attempt = Attempt()
    attempt.machine.failures[cut] = NodeUnreachable("gone")
    with pytest.raises(NodeUnreachable):
        attempt.run()
    del attempt.machine.failures[cut]

    attempt.run()

    assert [name for name in attempt.machine.ran if name in NAMES] == NAMES
    assert list(attempt.done) == NAMES
    # The hub may have lost the peer meanwhile, so it is told again.
    assert attempt.story.count("peer bm9k") == (2 if NAMES.index(cut) > NAMES.index("overlay") else 1)


def test_a_finished_join_does_nothing_more():
    attempt = Attempt()
    attempt.run()
    attempt.story.clear()

    attempt.run()

    assert attempt.story == []


def test_a_machine_that_is_not_what_was_bought_gets_no_bundle_and_no_key():
    attempt = Attempt(gpu_0="NVIDIA A10, 23028")

    with pytest.raises(StepFailed, match=r"acceptance of the machine: nvidia-smi reports 1 × NVIDIA A10"):
        attempt.run()

    assert attempt.machine.ran == ["host_key_made", "host_key", "facts"]
    assert attempt.machine.uploads == []


def test_a_step_that_fails_is_told_with_its_last_words():
    attempt = Attempt()
    attempt.machine.failures["munge"] = (1, "@out x=y\n\nmunged: the key is too short")

    with pytest.raises(StepFailed, match=r"step munge ended with 1: munged: the key is too short$"):
        attempt.run()

    assert "munge" not in attempt.done
