from datetime import UTC, datetime

import pytest
from factories import a_shape

from broker.provisioning.acceptance import accept
from broker.provisioning.fake import facts_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHAPE = a_shape(accelerator="H100", accelerator_count=2)


def problems(shape=SHAPE, arch=None, **facts):
    return accept(shape, {**facts_of(shape, epoch=NOW.timestamp()), **facts}, NOW, arch)


def test_a_machine_that_is_what_was_bought_has_no_problems():
    assert problems() == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"gpu_1": "NVIDIA A10, 23028"},
            "reports 1 × NVIDIA A10, 1 × NVIDIA H100, the shape needs 2 × H100",
        ),
        ({"gpus": "1"}, "nvidia-smi reports 1 × NVIDIA H100, the shape needs 2 × H100"),
        ({"gpus": "0", "gpu_error": "the image has no nvidia-smi"}, "no GPU (the image has no nvidia-smi)"),
        ({"gpu_error": "nvidia-smi ended with 9"}, "nvidia-smi: nvidia-smi ended with 9"),
        ({"gpu_0": "NVIDIA H100, 10240"}, "GPU 0 has 10240 MiB"),
        ({"gpu_0": "NVIDIA H100, [N/A]"}, "GPU 0 has [N/A] MiB"),
        ({"cpus": "3"}, "3 CPUs, the shape needs 4"),
        ({"memory_mib": "14000"}, "14000 MiB of memory, the shape needs 16384"),
        ({"memory_mib": ""}, "does not say how many MiB of memory"),
        ({"disk_free_mib": "70000"}, "70000 MiB of free disk, the shape needs 102400"),
        ({"epoch": str(int(NOW.timestamp()) + 61)}, "its clock is 61 s ahead of ours, 60 s are allowed"),
        ({"epoch": str(int(NOW.timestamp()) - 3600)}, "3600 s behind ours"),
        ({"epoch": "soon"}, "does not tell its time"),
        ({"missing": "ssh awk"}, "the image lacks ssh awk"),
    ],
)
def test_each_way_a_machine_can_be_wrong_is_named(facts, said):
    found = problems(**facts)

    assert len(found) == 1
    assert said in found[0]


def test_what_firmware_and_image_take_for_themselves_is_allowed():
    assert problems(memory_mib="15000", disk_free_mib="90000", epoch=str(int(NOW.timestamp()) + 59)) == []


def test_a_machine_of_another_cpu_family_cannot_run_our_programs():
    assert problems(arch="aarch64") == ["its CPU is x86_64, the node bundle was built for aarch64"]
    assert problems(arch="x86_64") == []


def test_a_cpu_shape_does_not_ask_for_a_gpu():
    shape = a_shape(accelerator=None, accelerator_count=0)

    assert problems(shape, gpu_error="the image has no nvidia-smi") == []


def test_a_machine_that_says_nothing_is_refused_in_words():
    assert len(accept(SHAPE, {}, NOW)) == 5
