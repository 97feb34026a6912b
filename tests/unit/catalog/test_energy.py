import pytest
from factories import an_offer

from broker.catalog.energy import energy_of
from broker.catalog.zones import Confidence, place_of


def energy(instance_type, **hardware):
    return energy_of(an_offer(**hardware).hardware, instance_type)


def test_a_board_that_is_known_gives_a_figure_of_medium_confidence():
    sure = energy("gpu_1x_h100_pcie", cpus=26, memory_gib=225)
    assert (sure.load_w, sure.idle_w, sure.confidence) == (434, 111, Confidence.MEDIUM)
    assert energy("some type").confidence is Confidence.LOW
    assert energy("some type").load_w > sure.load_w


def test_eight_h100_draw_what_such_servers_do_without_their_fans():
    assert 4500 < energy("gpu_8x_h100_sxm5", accelerator_count=8, cpus=208, memory_gib=1800).load_w < 10200


def test_a_module_with_its_own_cpu_is_not_counted_twice():
    with_cpu = energy("gpu_1x_gh200", accelerator="GH200", accelerator_memory_gib=96, cpus=64, memory_gib=432)
    assert with_cpu.load_w == pytest.approx(0.7 * 1000 + 432 * 0.38, abs=1)


def test_a_cpu_machine_draws_something_and_an_unknown_gpu_nothing_we_know():
    assert energy("cpu", accelerator=None, accelerator_count=0).load_w > 0
    assert energy("x", accelerator="X9000") is None


@pytest.mark.parametrize(
    ("kind", "zone", "grid", "confidence"),
    [
        ("lambda", "us-south-3", "US-TEX-ERCO", "high"),
        ("lambda", "us-southeast-1", None, "low"),
        ("vast", "us-new-york", "US-NY-NYIS", "low"),
        ("vast", "cn-guangxi", None, "low"),
        ("vast", "de", "DE", "low"),
    ],
)
def test_a_zone_has_a_grid_as_far_as_anybody_knows(kind, zone, grid, confidence):
    where = place_of(kind, zone)
    assert (where.grid_zone, where.confidence) == (grid, confidence)


def test_a_zone_nobody_knows_has_no_place():
    assert place_of("lambda", "us-moon-1") is None
    assert place_of("lambda", "-") is None
    assert place_of("vast", "unknown") is None
