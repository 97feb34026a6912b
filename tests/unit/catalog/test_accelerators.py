import pytest

from broker.catalog.accelerators import canonical, known, names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("H100 (80 GB SXM5)", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("A10 (24 GB PCIe)", "A10"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("Quadro RTX 6000", "RTX6000"),
        ("RTX A6000", "A6000"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA L40S", "L40S"),
        ("h100", "H100"),
    ],
)
def test_vendors_spellings_lead_to_one_name(text, name):
    assert canonical(text) == name


@pytest.mark.parametrize("text", ["", "N/A", "Example GPU (40 GB SXM4)", "H1000", "XH100"])
def test_what_we_do_not_know_has_no_name(text):
    assert canonical(text) is None


def test_every_name_is_its_own_spelling():
    assert [canonical(name) for name in names()] == sorted(known())
