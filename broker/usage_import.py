"""`broker usage import`: exports of sacct into the ledger, beside the daemon or without it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from broker.accounting.bad import BadLine
from broker.accounting.export import joined, read
from broker.accounting.history import current
from broker.app import utc_now
from broker.config import load
from broker.core.errors import BrokerError, StaleLease
from broker.db import sacct_runs
from broker.db.engine import connect, current_revision, known_revisions, reading
from broker.ledger import as_owner_of

_AT_ONCE = 500  # rows a transaction: the daemon's own writes wait for it
_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Imported:
    """`unfinished`: runs that are not over, which a later export tells; `unplaced`: runs without a time of submission."""

    rows: int
    bad: tuple[BadLine, ...]
    steps: int
    unfinished: int
    unplaced: int
    added: sacct_runs.Added


def import_usage(
    config: Path,
    files: Sequence[Path],
    *,
    columns: Sequence[str] | None = None,
    zone: tzinfo | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Imported:
    """Write the runs in `files` that are over into the ledger. It may be done again, and after it broke off.

    Rows without a cluster are of the configured one. UnreadableExport, ConfigError, LedgerUnavailable.
    """
    settings = load(config)
    # Before root becomes the daemon's user: the files are root's.
    export = joined(read(path, columns=columns, zone=zone) for path in files)
    with as_owner_of(settings.site.state_dir):
        engine = connect(settings.site.ledger, settings.site.database_password)
        try:
            _check(engine)
            runs = current(export.runs).runs
            over = runs.filter(runs["is_over"])
            placed = over.filter(over["submitted"].is_not_null()).sort("submitted", "raw_id")
            source = ", ".join(str(path) for path in files)
            added = sacct_runs.Added()
            rows = ({**row, "cluster": row["cluster"] or settings.site.cluster} for row in placed.iter_rows(named=True))
            for some in _batches(rows):
                added += _add(engine, some, source, clock)
        finally:
            engine.dispose()
    return Imported(
        rows=export.rows,
        bad=export.bad,
        steps=export.steps,
        unfinished=runs.height - over.height,
        unplaced=over.height - placed.height,
        added=added,
    )


def _check(engine: Engine) -> None:
    with reading(engine) as db:
        here, newest = current_revision(db), known_revisions()[-1]
    if here != newest:
        raise BrokerError(
            f"the ledger has the schema {here or 'of an empty database'}, and this release {newest}: start the daemon once, "
            "which brings it up to date"
        )


def _add(
    engine: Engine, some: Sequence[dict[str, Any]], source: str, clock: Callable[[], datetime]
) -> sacct_runs.Added:
    """Two imports at once may meet in one run: who comes second looks again."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(StaleLease), engine.begin() as db:
            return sacct_runs.add(db, some, source, clock())
    with engine.begin() as db:
        return sacct_runs.add(db, some, source, clock())


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """In pieces in which no run comes twice (two runs of one job do, and `add` tells them apart by their submission)."""
    while some := list(islice(rows, _AT_ONCE)):
        yield some
