"""A slice of the crash driver: every effect of one job's life, and the worst moments of other stories.

All of it: `python -m chaos.crash_driver --mode each`; `make chaos` for deaths at random. See `README.md` beside this file.
"""

import pytest
from chaos.crash_driver import chain, one_death
from chaos.effects import AFTER, BEFORE, Cut
from chaos.scenarios import SCENARIOS
from chaos.zygote import Zygote

_LAUNCH = "launch: POST /instance-operations/launch"


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


def test_a_job_ends_once_though_a_daemon_dies_at_every_effect_of_its_life(zygote):
    outcome = chain(SCENARIOS["one-job"], zygote)
    assert outcome.wrong == []
    assert outcome.labels - outcome.died_at == frozenset()
    died_at = " ".join(label for label, _ in outcome.died_at)
    for effect in (
        "requested→launching", _LAUNCH, "launching→bootstrapping", "step slurmd", "net set_peer", "bootstrapping→ready",
        "export_home", "open *.fifo", "ready→draining", "net remove_peer", "terminate", "releasing→released",
    ):  # fmt: skip
        assert effect in died_at, f"nobody died at {effect}"


@pytest.mark.parametrize(
    ("scenario", "label", "phase"),
    [
        ("answer-lost", _LAUNCH, BEFORE),
        ("third-offer", _LAUNCH, AFTER),
        ("gang", _LAUNCH, AFTER),
        ("gang", "bootstrap: step slurmd", AFTER),
        ("cancelled", "release: POST /instance-operations/terminate", AFTER),
        ("test-purchase", "trial: POST /instance-operations/launch", AFTER),
        ("sold-out", "hand_back: slurm power_down_force", AFTER),
    ],
)
def test_one_death_at_the_worst_moment_changes_no_story(zygote, scenario, label, phase):
    outcome = one_death(SCENARIOS[scenario], zygote, Cut(label=label, phase=phase))
    assert (outcome.deaths, outcome.wrong) == (1, [])
