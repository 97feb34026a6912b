"""Books usage as the hours pass, and tells Stripe's meters of it where the site wants that."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.reconcile.driver import Task
from broker.services.metered_usage import MeteredUsage
from broker.services.metering import Metering

_THOROUGH = timedelta(days=1)


@dataclass
class Meter:
    """`usage` None: nobody outside is told. A look at what ended long ago is taken once a day."""

    metering: Metering
    clock: Callable[[], datetime]
    usage: MeteredUsage | None = None
    _looked_at: datetime | None = field(default=None, init=False)

    def find(self) -> Iterable[Task]:
        """Books what is due, and yields the telling, which may wait for Stripe."""
        now = self.clock()
        thorough = self._looked_at is None or now - self._looked_at >= _THOROUGH
        self.metering.book(now, thorough)
        if thorough:
            self._looked_at = now
        if self.usage is not None:
            yield Task(key="meter:stripe", run=self._tell)

    def _tell(self) -> None:
        if self.usage is not None:
            self.usage.send()
