"""What Slurm's accounting said of each run. Only ever added to: a later word is an entry that supersedes the one before.

Reading the same export again adds nothing, and the last word on a run is the same in whatever order exports are read
(`accounting/history.py` says which of two words is the later one).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects import postgresql, sqlite

from broker.accounting.history import rank
from broker.core.errors import StaleLease
from broker.db.schema import sacct_runs

Run = Mapping[str, Any]
"""One row of `accounting.typed.SCHEMA`, over, with a cluster and a time of submission."""

_SAME = ("state", "user", "account", "partition", "qos", "gpus", "cpus", "billing", "nodes", "raw_id", "job_id")
_LENGTHS = {"elapsed": "elapsed_s", "suspended": "suspended_s", "limit": "limit_s"}
_TIMES = {"submitted": "submitted_at", "started": "started_at", "ended": "ended_at"}


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of runs: `new`, `corrected` (a later word than the ledger's), `known` (the same), `older` words."""

    new: int = 0
    corrected: int = 0
    known: int = 0
    older: int = 0

    def __add__(self, other: "Added") -> "Added":
        return Added(
            new=self.new + other.new,
            corrected=self.corrected + other.corrected,
            known=self.known + other.known,
            older=self.older + other.older,
        )


def add(db: Connection, runs: Sequence[Run], source: str, now: datetime) -> Added:
    """Write what the ledger does not know yet; at most 500 runs, each once.

    StaleLease: another import wrote about one of them meanwhile, and nothing of ours stands; read and write again.
    """
    known = _known(db, runs)
    entries: list[dict[str, Any]] = []
    counted = Added()
    for run, words in zip(runs, known, strict=True):
        digest = _digest(run)
        if any(word.digest == digest for word in words):
            counted += Added(known=1)
            continue
        last = _last(words)
        if last is not None and rank(run) <= rank(_run(last, run)):
            counted += Added(older=1)
            continue
        counted += Added(new=1) if last is None else Added(corrected=1)
        entries.append(_entry(run, digest, last, source, now))
    if entries:
        make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        written = db.execute(make(sacct_runs).on_conflict_do_nothing().returning(sacct_runs.c.id), entries)
        if len(written.all()) < len(entries):
            raise StaleLease("another import wrote about the same runs at the same time")
    return counted


def last_words(db: Connection) -> Iterable[Row[Any]]:
    """The entries that none supersedes: one a run, in the order in which they were written."""
    later = select(sacct_runs.c.supersedes).where(sacct_runs.c.supersedes.is_not(None))
    return db.execute(select(sacct_runs).where(sacct_runs.c.id.not_in(later)).order_by(sacct_runs.c.id))


def _known(db: Connection, runs: Sequence[Run]) -> list[list[Row[Any]]]:
    """What the ledger has of each of `runs`: by Slurm's own name of it, or, where exports give it names of different kinds,
    by the job's number and its time of submission."""
    by_key: dict[tuple[str, str], list[Row[Any]]] = defaultdict(list)
    by_submission: dict[tuple[str, str, int], list[Row[Any]]] = defaultdict(list)
    query = select(sacct_runs).where(
        sacct_runs.c.cluster.in_({run["cluster"] for run in runs}),
        sacct_runs.c.raw_id.in_({run["raw_id"] for run in runs}),
    )
    for row in db.execute(query.order_by(sacct_runs.c.id)):
        by_key[row.cluster, row.key].append(row)
        by_submission[row.cluster, row.raw_id, int(row.submitted_at.timestamp())].append(row)
    found = []
    for run in runs:
        key = _key(run)
        words = by_key[run["cluster"], key]
        if not words:
            same = by_submission[run["cluster"], run["raw_id"], run["submitted"]]
            words = [row for row in same if _kind(row.key) != _kind(key)]
        found.append(words)
    return found


def _kind(key: str) -> str:
    return key.partition(":")[0]


def _last(words: Sequence[Row[Any]]) -> Row[Any] | None:
    superseded = {word.supersedes for word in words}
    return next((word for word in words if word.id not in superseded), None)


def _key(run: Run) -> str:
    if run["sluid"]:
        return f"sluid:{run['sluid']}"
    if run["db_index"] is not None:
        return f"db:{run['db_index']}"
    return f"job:{run['raw_id']}@{run['submitted']}"


def _digest(run: Run) -> str:
    facts = [run[name] for name in (*_SAME, *_LENGTHS, *_TIMES)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _entry(run: Run, digest: str, last: Row[Any] | None, source: str, now: datetime) -> dict[str, Any]:
    return {
        "cluster": run["cluster"],
        "key": _key(run) if last is None else last.key,
        "supersedes": None if last is None else last.id,
        "digest": digest,
        **{name: run[name] for name in _SAME},
        # `12_[1,3,5,…]`, an array cancelled while it waited: as long as its list of tasks. `raw_id` names the run.
        "job_id": run["job_id"][:128],
        **{column: run[name] for name, column in _LENGTHS.items()},
        **{column: _moment(run[name]) for name, column in _TIMES.items()},
        "imported_at": now,
        "source": source,
    }


def _run(row: Row[Any], like: Run) -> Run:
    """An entry as the run that it was made of; what only names the run is as in `like`."""
    told = {name: getattr(row, column) for name, column in _LENGTHS.items()}
    times = {name: getattr(row, column) for name, column in _TIMES.items()}
    return {
        **like,
        **{name: getattr(row, name) for name in _SAME},
        **told,
        **{name: None if at is None else int(at.timestamp()) for name, at in times.items()},
        "is_over": True,
    }


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
