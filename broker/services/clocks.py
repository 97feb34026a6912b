"""How far this host's clock is from each provider's, from the dates of their answers."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from broker.providers.http import Exchange, Wait

_A_SECOND = timedelta(seconds=1)


class Clocks:
    """Hears each call of the adapters. Safe for threads."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._offsets: dict[str, float] = {}
        self._lock = threading.Lock()

    def hear(self, heard: Exchange | Wait) -> None:
        """One exchange with a provider; answers without a date tell nothing."""
        if isinstance(heard, Wait) or heard.date is None:
            return
        now = self._clock()
        # The date is cut to whole seconds and was made while we waited for the answer.
        low = now - timedelta(seconds=heard.seconds) - heard.date - _A_SECOND
        high = now - heard.date
        off = low if low > timedelta(0) else high if high < timedelta(0) else timedelta(0)
        with self._lock:
            self._offsets[heard.provider] = off.total_seconds()

    def offset_s(self, provider: str) -> float | None:
        """Seconds that our clock is ahead of the provider's, at least; None: it told no time yet."""
        with self._lock:
            return self._offsets.get(provider)
