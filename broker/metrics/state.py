"""What the ledger and the spool say at the moment of a scrape."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from broker.core.blocks import Blocks, Cause
from broker.core.errors import LedgerUnavailable
from broker.core.leases import LIVING, LeaseState
from broker.db import blocks, leases, looks, observations, offers, purchasing
from broker.db.engine import reading
from broker.metrics import catalogue
from broker.metrics.catalogue import Spec


class State(Collector):
    """Made anew at each scrape. A ledger that cannot be read is a metric, too."""

    def __init__(
        self,
        *,
        engine: Engine,
        credentials: frozenset[str],
        image: str,
        jobs_folder: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._credentials = sorted(credentials)
        self._image = image
        self._jobs_folder = jobs_folder
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        yield _family(catalogue.JOBS_WAITING, [((), sum(1 for _ in self._jobs_folder.glob("*.job")))])
        try:
            found = list(self._of_ledger())
        except (SQLAlchemyError, LedgerUnavailable):
            # The rest is worth showing: a ledger that cannot be read is what the reader must learn of.
            yield _family(catalogue.LEDGER_UP, [((), 0)])
            return
        yield _family(catalogue.LEDGER_UP, [((), 1)])
        yield from found

    def _of_ledger(self) -> Iterator[Metric]:
        with reading(self._engine) as db:
            living = leases.living(db)
            on_sale = offers.counts(db)
            standing = blocks.current(db)
            looked = looks.latest(db)
            paused = purchasing.paused(db)
            newest = {name: observations.last_look(db, name, believed=False) for name in self._credentials}
        states = Counter(lease.state for lease in living)
        yield _family(catalogue.LEASES, [((str(state),), states[state]) for state in LeaseState if state in LIVING])
        price: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for lease in living:
            if lease.label is not None and lease.price_per_hour is not None:
                price[lease.provider or "", lease.currency or ""] += lease.price_per_hour
        yield _family(catalogue.PRICE, [(key, float(amount)) for key, amount in price.items()])
        count = {(provider, "yes" if available else "no"): number for provider, available, number, _ in on_sale}
        read_at: dict[tuple[str, ...], float] = {}
        for provider, _, _, seen in on_sale:
            read_at[provider,] = max(read_at.get((provider,), 0.0), seen.timestamp())
        every = [(name, word) for name in self._credentials for word in ("yes", "no")]
        yield _family(catalogue.OFFERS, [(key, count.get(key, 0)) for key in every])
        yield _family(catalogue.OFFERS_READ, read_at.items())
        now = self._clock()
        suspended = Blocks(standing, now, self._image).closed_credentials()
        shut = Counter((block.provider, str(block.cause)) for block in standing if block.is_open(now))
        causes = [(name, str(cause)) for name in self._credentials for cause in Cause]
        yield _family(catalogue.BLOCKS, [(key, shut[key]) for key in causes])
        taken = [((name,), look.at.timestamp()) for name, look in looked.items() if look.error is None]
        yield _family(catalogue.LOOKED, taken)
        readings = [look for look in newest.values() if look is not None]
        left_out = [((look.provider, reason), count) for look in readings for reason, count in look.left_out.items()]
        yield _family(catalogue.OFFERS_LEFT_OUT, left_out)
        yield _family(catalogue.OFFERS_DOUBTED, [((look.provider,), int(not look.believed)) for look in readings])
        yield _family(catalogue.SUSPENDED, [((name,), int(name in suspended)) for name in self._credentials])
        yield _family(catalogue.PAUSED, [((), int(paused is not None))])


def _family(spec: Spec, values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
