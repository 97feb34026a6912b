"""Prices and stock over time, constant and recorded."""

import json

import pytest
from unit.simulate.worlds import steps

from broker.simulate.supply import constant, recorded
from broker.simulate.trace import Unreadable


def test_a_step_holds_until_the_next_and_a_period_begins_again():
    supply = steps((0.0, 1.0, 5.0), (2.0, 3.0, 0.0), period=3.0)

    assert [supply.at(hour) for hour in (0, 1.9, 2, 3, 5.5)] == [(1, 5), (1, 5), (3, 0), (1, 5), (3, 0)]
    assert supply.usd(1, 4) == pytest.approx(1 + 3 + 1)
    assert supply.sold_out_at(0, 1.5) is None
    assert supply.sold_out_at(0, 9) == 2.0
    assert supply.sold_out_at(3, 9) == 5.0
    assert constant(2, 7).usd(1, 4) == 6


def snapshot(at, **offers):
    by_provider = {name: {"count": 1, "min": price, "avg": price} for name, price in offers.items()}
    return json.dumps({"timestamp": f"2025-10-19T{at}+00:00", "by_provider": by_provider})


def test_a_provider_that_is_missing_from_a_snapshot_sells_nothing_then(tmp_path):
    path = tmp_path / "h100.jsonl"
    path.write_text("\n".join((snapshot("00:00:00", a=2.0), snapshot("00:30:00", b=1.0), snapshot("01:00:00", a=2.5))))

    supply = recorded(path, 9.0, 8.0, "a")

    assert [supply.at(hour) for hour in (0.1, 0.6, 1.1)] == [(2.0, 8.0), (2.0, 0.0), (2.5, 8.0)]
    assert supply.period_h == 1.5


def test_nothing_is_sold_in_a_silence_of_hours(tmp_path):
    path = tmp_path / "h100.jsonl"
    path.write_text("\n".join((snapshot("00:00:00", a=2.0), snapshot("12:00:00", a=2.0))))

    supply = recorded(path, 9.0, 8.0, "a")

    assert [supply.at(hour)[1] for hour in (5.9, 6.1, 11.9, 12.1)] == [8.0, 0.0, 0.0, 8.0]


def test_spot_probes_say_when_there_is_none(tmp_path):
    path = tmp_path / "probes.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": 1800}, "data": [1, 1, 0, 2]}))

    supply = recorded(path, 0.8, 4.0, None)

    assert [supply.at(hour) for hour in (0, 0.9, 1.0, 1.5, 2.0)] == [(0.8, 4), (0.8, 4), (0.8, 0), (0.8, 4), (0.8, 4)]


@pytest.mark.parametrize(
    ("text", "provider", "says"),
    [
        ("{}\n", "a", "line 1 is no snapshot"),
        ("x\n", "a", "line 1 is no snapshot"),
        ("", "a", "at least two snapshots"),
        ("{}", None, "no spot probes"),
        ('{"metadata": {"gap_seconds": 60}, "data": []}', None, "at least one count"),
    ],
)
def test_other_files_are_refused(tmp_path, text, provider, says):
    path = tmp_path / "file"
    path.write_text(text)

    with pytest.raises(Unreadable, match=says):
        recorded(path, 1.0, 1.0, provider)


def test_real_recordings_are_read(shared):
    h100 = recorded(shared / "prices/gpu_cloud_prime/H100_80GB_SXM5.jsonl.gz", 9.0, 8.0, "nebius")
    spot = recorded(next((shared / "prices/spot_traces/availability/1-node").rglob("*.json.gz")), 1.0, 8.0, None)

    there = sum(devices > 0 for devices in h100.devices) / len(h100.devices)
    assert 0.5 < there <= 1
    assert 20 * 24 < h100.period_h < 22 * 24
    assert {0.0, 8.0} >= set(spot.devices)
