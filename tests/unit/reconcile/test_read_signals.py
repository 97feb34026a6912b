"""The daemon's reading of signals: every zone, and troubles said once."""

import logging
from datetime import UTC, datetime

from broker.core.errors import SignalUnavailable
from broker.core.readings import Series
from broker.reconcile.read_signals import ReadSignals
from broker.signals.chain import Signals
from broker.signals.fetch import Fetched
from broker.signals.memory import Memory

NOW = datetime(2026, 6, 10, 12, 30, tzinfo=UTC)


class Source:
    name = "grid"
    refresh = lag = NOW - NOW
    zones = frozenset({"DE", "FR"})
    broken = False

    def average(self, zone, now):
        if self.broken:
            raise SignalUnavailable("grid: HTTP 403")
        return Fetched(Series(()), now)


def test_each_zone_is_a_task_and_what_is_wrong_is_said_once_and_again_when_it_is_over(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = Source()
    reader = ReadSignals(Signals([source], Memory(tmp_path), lambda: NOW))

    def look():
        caplog.clear()
        for task in reader.find():
            task.run()
        return [record.getMessage() for record in caplog.records]

    assert {task.key for task in reader.find()} == {"signals:DE", "signals:FR"}
    assert look() == []
    source.broken = True
    assert look() == ["zone=DE grid: HTTP 403", "zone=FR grid: HTTP 403"]
    assert look() == []
    source.broken = False
    assert look() == ["zone=DE every source answers", "zone=FR every source answers"]
