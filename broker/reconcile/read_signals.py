"""Asks the configured sources of carbon intensity and prices, so that plans find them at hand. One that fails stops nothing."""

import logging
from collections.abc import Iterable
from functools import partial

from broker.reconcile.driver import Task
from broker.signals.chain import Signals

log = logging.getLogger("broker.signals")


class ReadSignals:
    """One task a zone. What is wrong is logged once, and again when it has changed."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._said: dict[str, list[str]] = {}

    def find(self) -> Iterable[Task]:
        for zone in self._signals.zones():
            yield Task(key=f"signals:{zone}", run=partial(self._refresh, zone))

    def _refresh(self, zone: str) -> None:
        troubles = self._signals.refresh(zone)
        if troubles != self._said.get(zone, []):
            for trouble in troubles:
                log.warning("zone=%s %s", zone, trouble)
            if not troubles:
                log.info("zone=%s every source answers", zone)
        self._said[zone] = troubles
