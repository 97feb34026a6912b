"""A year of history of four providers: made up from churn that was measured, folded as the daemon does, then asked.

`PYTHONPATH=tests python tests/bench/year.py [--postgres]` prints its size and how long questions take. Where the churn is from:
an API like Lambda's, by the rates fitted on its polls (`shipped_rates.py`); two clouds with price lists, 1.7 comings and goings
and 1 price change a day for each GPU model, as in 694 half-hourly snapshots of Prime Intellect's list (Oct-Nov 2025); a market
of VMs on strangers' machines, each to be had 17 % of the time (the median in a scrape of Vast.ai), an hour at a time.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from market import NOW, offers
from measure import Figure
from sqlalchemy import Engine, text

from broker.core.observations import Look, Observation, Source
from broker.core.offers import Offer
from broker.db import observations
from broker.db.engine import open_ledger, reading
from broker.db.folding import Retention, fold, forget_readings
from broker.services.forecast import Forecast

_DAY = timedelta(days=1)
_FOLD_EVERY = 10
_NAME = "a year of four providers"

DAYS_OF_A_MODEL = """
SELECT date(p.start) AS day, min(CAST(p.price_low AS NUMERIC)) AS low, sum(p.available_s) / 86400.0 AS machines,
       sum(p.bought) AS bought, sum(p.refused) AS refused
FROM offer_periods p JOIN offer_series s ON s.id = p.series_id
WHERE s.accelerator = 'H100' AND s.accelerator_count = 1
GROUP BY date(p.start) ORDER BY 1
"""
YEAR_OF_AN_OFFER = """
SELECT p.start, p.hours, p.price_low, p.price_high, p.available_s FROM offer_periods p JOIN offer_series s ON s.id = p.series_id
WHERE s.offer_id = (SELECT offer_id FROM offer_series WHERE id = 7) ORDER BY p.start
"""
CHEAPEST_MONTHS = """
SELECT s.provider, s.accelerator, substr(CAST(p.start AS TEXT), 1, 7) AS month, min(CAST(p.price_low AS NUMERIC)) AS low
FROM offer_periods p JOIN offer_series s ON s.id = p.series_id GROUP BY s.provider, s.accelerator, month
"""


def figures(folder: Path, days: int = 365, machines: int = 600, url: str | None = None) -> list[Figure]:
    """What the year takes on disk, and how long questions over it take (the median of five)."""
    path = folder / "year.db"
    engine = open_ledger(url or f"sqlite:///{path}")
    written = _live(engine, days, machines)
    found = [
        Figure(what=f"{_NAME}: observations written", value=written, unit="rows"),
        Figure(what=f"{_NAME}: rows of history", value=_rows(engine), unit="rows"),
        Figure(what=f"{_NAME}: size", value=_megabytes(engine, path), unit="MB"),
    ]
    for what, query in (
        ("price, machines and purchases of one GPU model, by day", DAYS_OF_A_MODEL),
        ("one offer's whole year", YEAR_OF_AN_OFFER),
        ("the lowest price of each model at each provider, by month", CHEAPEST_MONTHS),
    ):
        found.append(Figure(what=f"{_NAME}: {what}", value=_asked(engine, query), unit="ms"))
    began = time.perf_counter()
    Forecast().learn_if_due(engine, NOW)
    found.append(
        Figure(what=f"{_NAME}: chances learned from 3 days", value=(time.perf_counter() - began) * 1000, unit="ms")
    )
    engine.dispose()
    return found


def _live(engine: Engine, days: int, machines: int) -> int:
    written = 0
    markets = [list(_sold(name, count)) for name, count in (("lambda", 80), ("cloud-a", 40), ("cloud-b", 40))]
    markets.append(list(_sold("market", machines)))
    began = NOW - days * _DAY
    for day in range(days):
        start = began + day * _DAY
        with engine.begin() as db:
            for market in markets:
                told = sorted((one for lives in market for one in lives.day(start)), key=lambda one: one.at)
                observations.append(db, told)
                written += len(told)
                # A row a five minutes, as the daemon writes it while nothing changes.
                for number in range(288):
                    at = start + number * timedelta(minutes=5)
                    observations.append_look(db, _look(market[0].offer.provider, at))
        if day % _FOLD_EVERY == _FOLD_EVERY - 1 or day == days - 1:
            _fold(engine, start + _DAY)
    return written


class _Life:
    """One offer that comes, goes and changes its price."""

    def __init__(self, offer: Offer, up_s: float, down_s: float, prices_a_day: float, dice: random.Random) -> None:
        self.offer = offer
        self._up_s, self._down_s, self._prices_s = up_s, down_s, 86400 / prices_a_day
        self._dice = dice
        self._flip: datetime | None = None
        self._price: datetime | None = None

    def day(self, start: datetime) -> Iterator[Observation]:
        """What is written down of it in the day from `start`."""
        if self._flip is None or self._price is None:
            self._flip, self._price = start, start + self._after(self._prices_s)
        while min(self._flip, self._price) < start + _DAY:
            if self._flip <= self._price:
                at = self._flip
                self.offer = replace(self.offer, available=not self.offer.available, observed_at=at)
                self._flip = at + self._after(self._up_s if self.offer.available else self._down_s)
            else:
                at = self._price
                self.offer = replace(
                    self.offer, price_per_hour=Decimal(self._dice.randint(100, 1500)) / 100, observed_at=at
                )
                self._price = at + self._after(self._prices_s)
                if not self.offer.available:
                    continue  # nobody lists it
            yield Observation(offer=self.offer, available=self.offer.available, at=at, source=Source.LISTING)

    def _after(self, mean_s: float) -> timedelta:
        return timedelta(seconds=max(30.0, self._dice.expovariate(1 / mean_s)))


def _sold(provider: str, count: int) -> Iterator[_Life]:
    dice = random.Random(provider)
    for number, offer in enumerate(offers(count)):
        made = replace(offer, provider=provider, instance_type=f"{provider}-{number}", available=False)
        if provider == "lambda":
            # As H100, GH200, A100 and A10 were seen to come and go.
            up_s, down_s = ((490, 2650), (990, 800), (6900, 220), (86400, 3600))[number % 4]
            yield _Life(made, up_s, down_s, 0.01, dice)
        elif provider == "market":
            yield _Life(replace(made, machine=str(number)), 3600, 17600, 0.5, dice)
        else:
            yield _Life(made, 21 * 3600, 7 * 3600, 1.0, dice)


def _look(provider: str, at: datetime) -> Look:
    return Look(provider=provider, at=at, polls=10, rows=1, changes=0, believed=True, note=None, left_out={})


def _fold(engine: Engine, now: datetime) -> None:
    while True:
        with engine.begin() as db:
            if not fold(db, now, Retention()):
                forget_readings(db, now, Retention())
                return


def _rows(engine: Engine) -> int:
    tables = ("offer_series", "offer_observations", "offer_readings", "offer_periods")
    with reading(engine) as db:
        return sum(int(db.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()) for table in tables)  # noqa: S608


def _megabytes(engine: Engine, path: Path) -> float:
    if engine.dialect.name == "sqlite":
        return path.stat().st_size / 1e6
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("VACUUM FULL"))  # a server of the tests has no autovacuum
    with reading(engine) as db:
        return int(db.execute(text("SELECT pg_database_size(current_database())")).scalar_one()) / 1e6


def _asked(engine: Engine, query: str) -> float:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        with reading(engine) as db:
            db.execute(text(query)).all()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--machines", type=int, default=600)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="broker-year-") as folder:
        if options.postgres:
            from postgres import Server, programs  # noqa: PLC0415

            found = programs()
            if found is None:
                raise SystemExit("PostgreSQL is not installed: `make packages` installs what the tests need")
            server = Server(found)
            try:
                server.make_template()
                _print(figures(Path(folder), options.days, options.machines, server.new_ledger()))
            finally:
                server.remove()
        else:
            _print(figures(Path(folder), options.days, options.machines))


def _print(found: list[Figure]) -> None:
    for figure in found:
        print(f"{figure.value:14.1f} {figure.unit:5} {figure.what}")  # noqa: T201


if __name__ == "__main__":
    main()
